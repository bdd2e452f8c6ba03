// What a person chose. All of it is in the address, so that a link shows the same page.
import { content, tableOf } from "./data.js";

const LISTS = ["method", "backbone", "pin", "show", "hide", "protocol", "data"];
const MAX_PINS = 4;

const listeners = [];

/** The choices: table id, text, lists of filters, sorting, pinned and open rows, figure and its options. */
export const state = read();

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const [key, value] of given) found[key] = LISTS.includes(key) ? value.split("|").filter(Boolean) : value;
  for (const key of LISTS) found[key] ??= [];
  found.table = tableOf(found.table)?.id ?? "";
  found.pin = found.pin.slice(0, MAX_PINS);
  return found;
}

function write() {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.join("|") : value;
    if (text && !(key === "table" && text === content.tables[0]?.id)) parts.set(key, text);
  }
  const hash = parts.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** Take over choices, and tell everybody which ones changed. */
export function choose(changes) {
  const keys = Object.keys(changes).filter((key) => String(state[key] ?? "") !== String(changes[key] ?? ""));
  if (!keys.length) return;
  Object.assign(state, changes);
  write();
  for (const listener of listeners) listener(new Set(keys));
}

/** Call a function with the set of changed keys whenever choices change. */
export function onChoice(listener) {
  listeners.push(listener);
}

addEventListener("hashchange", () => {
  for (const key of Object.keys(state)) delete state[key];
  Object.assign(state, read());
  for (const listener of listeners) listener(new Set(["table", "pin", "row", "fig", ...Object.keys(state)]));
});

/** Pin a row or let it go; four at most. */
export function togglePin(id) {
  const pinned = state.pin.includes(id);
  if (!pinned && state.pin.length >= MAX_PINS) return false;
  choose({ pin: pinned ? state.pin.filter((other) => other !== id) : [...state.pin, id] });
  return true;
}

/** Return the table in view. */
export function currentTable() {
  return tableOf(state.table);
}

/** Return the pinned rows of the table in view, in the order they were pinned. */
export function pinnedRows() {
  const rows = currentTable()?.rows ?? [];
  return state.pin.map((id) => rows.find((row) => row.id === id)).filter(Boolean);
}
