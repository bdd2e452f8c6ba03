// Pinned rows side by side.
import { button, byId, copyButton, el, name } from "./dom.js";
import { MISSING, fixed, interval, signed } from "./format.js";
import { COSTS, comparable, content, costOf, doubtMark, doubtOf, metricFacts, valueOf } from "./data.js";
import { differingFacts } from "./detectors.js";
import { difference } from "./differences.js";
import { choose, currentTable, onChoice, pinnedRows, togglePin } from "./state.js";

const LETTERS = ["A", "B", "C", "D"];

/** Show the tray of pinned rows. */
export function showTray() {
  const rows = pinnedRows();
  const tray = byId("tray");
  tray.hidden = !rows.length;
  document.body.classList.toggle("has-tray", Boolean(rows.length));
  if (!rows.length) return;
  tray.replaceChildren(
    el("ul", {}, rows.map((row, place) => el("li", {}, el("b", { "aria-hidden": "true" }, LETTERS[place]), name(row.entry, { title: row.entry }),
      button("×", () => togglePin(row.id), { class: "plain", "aria-label": `Let go of ${row.entry}` })))),
    el("div", { class: "tray-tools" },
      button("Compare", () => choose({ compare: "1" }), { class: "primary", disabled: rows.length < 2, "aria-haspopup": "dialog" }),
      button("Clear", () => choose({ pin: [] }), { class: "plain" })));
}

/** Show the comparison, or take it away. */
export function showComparison(wanted) {
  const dialog = byId("comparison");
  const rows = pinnedRows();
  if (!wanted || rows.length < 2) {
    dialog.close();
    return;
  }
  const table = currentTable();
  const [base, ...others] = rows;
  dialog.replaceChildren(
    el("header", {}, el("h2", { id: "comparison-title" }, "Comparison"), button("Close", () => choose({ compare: "" }), { class: "plain close" })),
    el("div", { class: "dialog-body" },
      el("p", {}, "Everything is compared with ", el("b", {}, "A"), ". ", sentences(table, base, others)),
      metricTable(table, rows),
      el("h3", {}, "Price"), costTable(rows),
      el("div", { id: "comparison-detectors" }),
      table.joined ? null : commandFor(table, rows)));
  if (!dialog.open) dialog.showModal();
  showDetectors(rows);
}

/** Show the facts in which the detectors of rows differ, once they are unpacked. */
async function showDetectors(rows) {
  const differing = await differingFacts(rows);
  if (!differing.length) return;
  const table = el("table", { class: "compare" }, head(rows), el("tbody", {}, differing.map(([fact, texts]) =>
    el("tr", {}, el("th", { scope: "row" }, name(fact)), texts.map((text) => el("td", {}, name(text)))))));
  byId("comparison-detectors")?.replaceChildren(el("h3", {}, "Detectors differ in"), scrolling("Detectors of the pinned rows", table));
}

function sentences(table, base, others) {
  if (table.joined) return "This table joins several measurements; open one of them for intervals.";
  return others.map((row, place) => {
    const found = difference(table, table.headline, row, base);
    const letter = LETTERS[place + 1];
    if (!found) return `${letter} has no ${table.headline}. `;
    if (!found.word) return `${letter} and A differ by ${signed(found.value)} ${table.headline}: ${found.from}. `;
    const single = [row, base].some((one) => one.sure?.one_seed) ? " With 1 seed, a new training may differ." : "";
    const words = { tie: "cannot be told apart from", better: "is better than", worse: "is worse than" }[found.word];
    return `${letter} ${words} A in ${table.headline}: ${signed(found.value)} ${interval(found.low, found.high)}.${single} `;
  });
}

function head(rows) {
  return el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Number")), rows.map((row, place) => el("th", { scope: "col" }, el("b", { class: "letter" }, LETTERS[place]), name(row.entry, { title: row.entry })))));
}

function scrolling(label, table) {
  return el("div", { class: "board-scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

function metricTable(table, rows) {
  const metrics = table.metrics.map(([metric]) => metric).filter((metric) => rows.some((row) => valueOf(table, row, metric).mean !== null));
  const ordered = [...table.columns.filter((metric) => metrics.includes(metric)), ...metrics.filter((metric) => !table.columns.includes(metric))];
  return scrolling("Metrics of the pinned rows", el("table", { class: "compare" }, head(rows), el("tbody", {}, ordered.map((metric) =>
    el("tr", {}, el("th", { scope: "row", title: metricFacts(table, metric).unit }, name(metric)), rows.map((row, place) => metricCell(table, metric, row, place ? rows[0] : null)))))));
}

function metricCell(table, metric, row, base) {
  const value = valueOf(table, row, metric);
  if (value.mean === null) return el("td", { class: "number missing", title: value.reason }, MISSING, el("span", { class: "why" }, value.reason));
  const own = [el("span", { class: "value" }, fixed(value.mean)), el("small", { class: "doubt" }, interval(value.low, value.high))];
  const found = base ? difference(table, metric, row, base) : null;
  if (!found) return el("td", { class: "number" }, own);
  const mark = { better: "▲ better", worse: "▼ worse", tie: "= tie" }[found.word] ?? "";
  return el("td", { class: "number", title: found.from }, own, el("div", { class: `difference ${found.word}` }, `${signed(found.value)} ${interval(found.low, found.high)} ${mark}`));
}

function costTable(rows) {
  const known = COSTS.filter((cost) => rows.some((row) => costOf(row, cost.key) !== null));
  return scrolling("Price of the pinned rows", el("table", { class: "compare" }, head(rows), el("tbody", {}, known.map((cost) => el("tr", {}, el("th", { scope: "row" }, cost.header),
    rows.map((row, place) => {
      const [own, first] = [costOf(row, cost.key), costOf(rows[0], cost.key)];
      const sound = comparable(row, cost.key) && comparable(rows[0], cost.key);
      const ratio = place && sound && own !== null && first ? `${fixed(own / first, 2)} ×` : "";
      return el("td", { class: "number", title: doubtOf(row, cost.key) || null }, fixed(own, cost.decimals), own === null ? "" : doubtMark(row, cost.key), ratio ? el("div", { class: "difference" }, ratio) : null);
    }))))));
}

function commandFor(table, rows) {
  const quoted = (text) => (/^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  // A name means one row where no other table of the task and no other row bears it.
  const named = (row) => content.tables.filter((other) => other.task === table.task).flatMap((other) => other.rows).filter((other) => other.entry === row.entry).length === 1;
  const command = `python benchmarks/run.py compare ${rows.map((row) => (named(row) ? quoted(row.entry) : row.runs[0])).join(" ")} --task ${quoted(table.task)}`;
  return el("div", {}, el("h3", {}, "In full"), el("p", { class: "quiet" }, "With p-values corrected for the number of comparisons, by class and size, and the images where they differ most:"),
    el("div", { class: "command" }, el("code", { tabindex: "0" }, command), copyButton(command)));
}

byId("comparison").addEventListener("close", () => choose({ compare: "" }));
onChoice((keys) => {
  if (keys.has("pin") || keys.has("table")) showTray();
  if (keys.has("compare") || keys.has("table")) showComparison(currentTable() && keys.has("compare") && document.body && wantsComparison());
});

function wantsComparison() {
  return new URLSearchParams(location.hash.slice(1)).get("compare") === "1";
}
