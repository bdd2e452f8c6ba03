// The tables to choose from, and the theme.
import { button, byId, el, menu, name } from "./dom.js";
import { KINDS, content, joinedName } from "./data.js";
import { choose, onChoice, state } from "./state.js";
import { tablePasses } from "./board_data.js";

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

/** Show the list of tables, by kind of data. */
export function showTables() {
  const nav = byId("tables");
  const groups = Object.keys(KINDS).map((kind) => [kind, content.tables.filter((table) => table.kind === kind && tablePasses(table))]);
  nav.replaceChildren(...groups.filter(([, tables]) => tables.length).map(([kind, tables]) =>
    el("div", { class: `table-group ${kind}` }, el("span", { class: "table-kind" }, KINDS[kind]),
      el("div", { class: "table-list" }, tables.map(tableButton)))), narrowing());
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function tableButton(table) {
  const current = table.id === state.table;
  const label = table.joined ? joinedName(table) : table.task;
  const limits = new Set(content.tables.map((other) => other.limit).filter((limit) => limit !== null));
  const limit = table.limit !== null && limits.size > 1 ? `first ${table.limit}` : "";
  const data = sameRules(table) > 1 && !table.joined ? `${table.data} ${table.fingerprint.slice(0, 4)}` : "";
  const about = [table.joined ? "" : table.protocol, data, limit].filter(Boolean).join(" · ");
  return button([el("span", {}, name(label)), about ? el("small", {}, name(about)) : null],
    () => choose({ table: table.id, pin: [], row: "", sort: "", x: "", y: "" }),
    { class: "table-button", "aria-current": current ? "true" : null });
}

function sameRules(table) {
  return content.tables.filter((other) => other.task === table.task && other.protocol === table.protocol && other.kind === table.kind && other.limit === table.limit).length;
}

function narrowing() {
  const protocols = [...new Set(content.tables.filter((table) => !table.joined).map((table) => table.protocol))].sort();
  const data = [...new Set(content.tables.filter((table) => !table.joined).map((table) => table.data))].sort();
  return el("div", { class: "table-filters" },
    protocols.length > 1 ? checks("Protocol", "protocol", protocols) : null,
    data.length > 1 ? checks("Data", "data", data) : null);
}

/** Return a menu of boxes to tick; what is ticked is in the state. */
export function checks(label, key, options, counts = new Map()) {
  const chosen = state[key].length;
  const boxes = options.map((option) => {
    const box = el("input", { type: "checkbox", on: { change: () => choose({ [key]: box.checked
      ? [...state[key], option] : state[key].filter((other) => other !== option) }) } });
    box.checked = state[key].includes(option);
    return el("label", {}, box, name(option || "(none)"), counts.has(option) ? el("span", { class: "quiet" }, String(counts.get(option))) : null);
  });
  return menu(chosen ? `${label}: ${chosen}` : label, { class: chosen ? "active" : "", "data-key": key }, el("fieldset", {}, el("legend", { class: "visually-hidden" }, label), boxes));
}

/** Show the choice of theme; it is remembered in the address like everything else. */
export function showTheme() {
  const choice = el("select", { "aria-label": "Theme", on: { change: () => choose({ theme: choice.value }) } },
    Object.entries(THEMES).map(([value, label]) => el("option", { value }, label)));
  choice.value = state.theme ?? "";
  document.documentElement.style.colorScheme = state.theme || "light dark";
  byId("tools").replaceChildren(choice);
}

onChoice((keys) => {
  if (keys.has("theme")) showTheme();
  if (!keys.has("table") && !keys.has("protocol") && !keys.has("data")) return;
  const open = byId("tables").querySelector("details[open]")?.dataset.key;
  const focused = document.activeElement?.closest("#tables label")?.textContent;
  showTables();
  if (!open) return;
  const again = byId("tables").querySelector(`details[data-key="${open}"]`);
  if (again) again.open = true;
  [...(again?.querySelectorAll("label") ?? [])].find((label) => label.textContent === focused)?.firstChild.focus();
});
