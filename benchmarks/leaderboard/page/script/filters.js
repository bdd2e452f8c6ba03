// The row of filters above the table.
import { button, byId, el, menu, name } from "./dom.js";
import { board } from "./board.js";
import { checks } from "./choices.js";
import { currentTable, choose, onChoice, state } from "./state.js";
import { downloads } from "./downloads.js";

const FILTERS = ["method", "backbone", "seeds", "show", "hide", "table", "published"];

/** Show the filters that the table in view has a use for. */
export function showFilters() {
  const table = currentTable();
  const bar = byId("toolbar");
  const open = bar.querySelector("details[open]")?.dataset.key;
  const focused = bar.contains(document.activeElement) ? document.activeElement.closest("label")?.textContent : null;
  bar.replaceChildren(search(), ...valueMenus(table), seedsChoice(table), columnMenu(), publishedChoice(table), downloads(), reset());
  const again = open ? bar.querySelector(`details[data-key="${open}"]`) : null;
  if (!again) return;
  again.open = true;
  if (focused) [...again.querySelectorAll("label")].find((label) => label.textContent === focused)?.querySelector("input")?.focus();
}

function search() {
  const field = el("input", { type: "search", placeholder: "Search", "aria-label": "Search rows", autocomplete: "off", spellcheck: "false",
    on: { input: () => choose({ q: field.value }) } });
  field.value = state.q ?? "";
  return field;
}

function valueMenus(table) {
  return [["Method", "method"], ["Backbone", "backbone"]].map(([label, key]) => {
    const counts = new Map();
    for (const row of table.rows) counts.set(row[key], (counts.get(row[key]) ?? 0) + 1);
    const options = [...new Set([...counts.keys(), ...state[key]])].sort((one, other) => one.localeCompare(other));
    return options.length > 1 ? checks(label, key, options, counts) : null;
  }).filter(Boolean);
}

function seedsChoice(table) {
  const most = Math.max(0, ...table.rows.map((row) => row.seeds.length));
  if (most < 2 && !state.seeds) return "";
  const choice = el("select", { "aria-label": "Seeds at least", on: { change: () => choose({ seeds: choice.value }) } },
    el("option", { value: "" }, "Any seeds"),
    Array.from({ length: Math.min(most, 10) }, (_, place) => el("option", { value: place + 1 }, `${place + 1}+ seeds`)));
  choice.value = state.seeds ?? "";
  return choice;
}

function publishedChoice(table) {
  if (!table.rows.some((row) => row.published)) return "";
  const box = el("input", { type: "checkbox", on: { change: () => choose({ published: box.checked ? "" : "hide" }) } });
  box.checked = !state.published;
  return el("label", { class: "tick" }, box, "Published rows");
}

function columnMenu() {
  const boxes = (board()?.columns ?? []).map((column, place) => ({ column, place })).filter(({ column }) => !column.fixed).map(({ column, place }) => {
    const box = el("input", { type: "checkbox", on: { change: () => toggleColumn(column.key, box.checked) } });
    box.checked = board().api.column(place).visible();
    return el("label", { title: column.about || null }, box, name(column.title));
  });
  return menu("Columns", { "data-key": "columns" }, el("fieldset", {}, el("legend", { class: "visually-hidden" }, "Columns"), boxes));
}

function toggleColumn(key, wanted) {
  const without = (list) => list.filter((other) => other !== key);
  choose(wanted ? { show: [...without(state.show), key], hide: without(state.hide) } : { hide: [...without(state.hide), key], show: without(state.show) });
}

function reset() {
  const chosen = state.q || state.seeds || state.method.length || state.backbone.length || state.show.length || state.hide.length || state.published;
  return button("Reset", () => {
    choose({ q: "", seeds: "", method: [], backbone: [], show: [], hide: [], published: "" });
    byId("toolbar").querySelector("input[type=search]").value = "";
  }, { class: "plain reset", hidden: !chosen });
}

onChoice((keys) => {
  if (FILTERS.some((key) => keys.has(key))) showFilters();
  else if (keys.has("q")) byId("toolbar").querySelector(".reset").hidden = false;
});
