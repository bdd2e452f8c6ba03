// The table in view: a real <table>, which DataTables sorts and filters.
import { byId, el, name } from "./dom.js";
import { count } from "./format.js";
import { passes } from "./board_data.js";
import { columnsOf } from "./columns.js";
import { choose, currentTable, onChoice, state } from "./state.js";

let shown = null;

const missingLast = (sign) => (one, other) => {
  const [a, b] = [Number.parseFloat(one), Number.parseFloat(other)];
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
};

DataTable.type("measured", { order: { asc: missingLast(1), desc: missingLast(-1) }, detect: () => false, className: "" });
DataTable.ext.errMode = "throw";

/** Return the table element and its columns; for the downloads. */
export function board() {
  return shown;
}

/** Build the table in view anew. */
export function showBoard() {
  shown?.api.destroy(true);
  const table = currentTable();
  const columns = columnsOf(table).map((column) => ({ ...column, visible: isVisible(column) }));
  const node = el("table", { class: "board", "aria-labelledby": "board-title", "aria-describedby": "board-info" },
    el("thead", {}, el("tr", {}, columns.map(headCell))),
    el("tbody", {}, table.rows.map((row) => rowNode(table, row, columns))));
  const holder = el("div", { class: "board-scroll", tabindex: "0", role: "region", "aria-labelledby": "board-title" }, node);
  byId("board").replaceChildren(holder);
  const api = new DataTable(node, {
    paging: false, info: false, autoWidth: false, orderMulti: true, orderClasses: false,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    order: sorting(table, columns),
    columns: columns.map((column) => ({
      type: column.kind === "plain" ? "string" : column.kind, orderable: column.kind !== "plain", visible: column.visible,
      orderSequence: column.metric || column.key.endsWith("interval") ? ["desc", "asc"] : ["asc", "desc"],
    })),
    language: { emptyTable: "No rows.", zeroRecords: "No row passes the filters." },
  });
  shown = { api, columns, table, node };
  api.search.fixed("choices", (text, data, place) => passes(table.rows[place]));
  api.on("order", rememberSorting);
  api.draw();
  byRank();
  say();
}

function headCell(column) {
  return el("th", { scope: "col", title: column.about || null, class: column.kind === "measured" ? "number" : `${column.key}-head` },
    column.key === "pin" ? el("span", { class: "visually-hidden" }, "Pin") : name(column.title));
}

function rowNode(table, row, columns) {
  const classes = [row.published ? "published" : "", state.pin.includes(row.id) ? "pinned" : ""].join(" ").trim();
  return el("tr", { class: classes || null, "data-row": row.id }, columns.map((column) => {
    const cell = column.cell(row);
    // DataTables reads only these: what it sorts by. Searching is ours.
    cell.setAttribute("data-order", column.order?.(row) ?? "");
    cell.setAttribute("data-search", "");
    return cell;
  }));
}

/** Tell whether a column is shown: by choice, else by the width of the window. */
function isVisible(column) {
  if (column.fixed || state.show.includes(column.key)) return true;
  if (state.hide.includes(column.key) || column.empty) return false;
  return innerWidth >= column.width;
}

function sorting(table, columns) {
  const [key, direction] = (state.sort ?? "").split(":");
  const chosen = columns.findIndex((column) => column.key === key);
  if (chosen >= 0) return [[chosen, direction === "desc" ? "desc" : "asc"]];
  return [[columns.findIndex((column) => column.key === (table.joined ? "entry" : "rank")), "asc"]];
}

function rememberSorting() {
  const [first] = shown.api.order();
  const [place, direction] = first ?? [];
  const column = shown.columns[place];
  choose({ sort: column && !(column.key === "rank" && direction === "asc") ? `${column.key}:${direction}` : "" });
  byRank();
}

/** Brackets join neighbours in rank, so they are drawn in that order alone. */
function byRank() {
  const [first] = shown.api.order();
  shown.node.classList.toggle("by-rank", shown.columns[first?.[0]]?.key === "rank" && first[1] === "asc");
}

function say() {
  const { table, api } = shown;
  const visible = api.rows({ search: "applied" }).count();
  const parts = [visible === table.rows.length ? count(visible, "row") : `${visible} of ${count(table.rows.length, "row")}`];
  if (table.left_out) parts.push(`${count(table.left_out, "further row")} not in this page`);
  const facts = table.statistics;
  const known = table.rows.some((row) => row.sure?.intervals.some((one) => one && one[0] !== null));
  const sources = [facts?.num_images ? `${facts.num_resamples.toLocaleString("en")} resamples of ${count(facts.num_images, "test image")}` : "", "the scatter over trainings"].filter(Boolean);
  if (known) parts.push(table.joined ? "95 % intervals as in the tables that this one joins" : `95 % intervals from ${sources.join(" and ")}`);
  if (known && table.rows.some((row) => row.seeds.length === 1)) parts.push("of rows with 1 seed, a new training may differ: their scatter is the protocol's seed floor");
  byId("board-info").textContent = `${parts.join(" · ")}.`;
}

document.addEventListener("keydown", (event) => {
  if (event.key !== " " || !event.target.classList?.contains("dt-column-order")) return;
  event.preventDefault();
  event.target.click();
});

onChoice((keys) => {
  if (keys.has("table")) return showBoard();
  if (["q", "method", "backbone", "seeds", "published"].some((key) => keys.has(key))) {
    shown.api.draw();
    say();
  }
  if (keys.has("show") || keys.has("hide")) {
    shown.columns.forEach((column, place) => shown.api.column(place).visible(isVisible(column), false));
  }
  if (keys.has("pin")) showPins();
});

function showPins() {
  shown.api.rows().nodes().each((node) => {
    const pinned = state.pin.includes(node.dataset.row);
    node.classList.toggle("pinned", pinned);
    const box = node.querySelector("input.pin");
    if (box) box.checked = pinned;
  });
}

let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    shown?.columns.forEach((column, place) => shown.api.column(place).visible(isVisible(column), false));
  }, 150);
});
