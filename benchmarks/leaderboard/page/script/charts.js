// What all figures share: colours, size, words beside them, and the numbers as a table.
import { byId, el, name } from "./dom.js";
import { clipped, fixed } from "./format.js";
import { onChoice, pinnedRows, state } from "./state.js";
import { visibleRows } from "./board_data.js";

// Okabe and Ito's colours that everybody can tell apart (https://jfly.uni-koeln.de/color/), darker and lighter for the two themes.
const LIGHT = ["#0072b2", "#c04f00", "#007a5a", "#a8488a", "#a87400", "#2f8fc4", "#5f6670", "#7a6a00"];
const DARK = ["#56b4e9", "#f08a4b", "#2fc79a", "#e39ac4", "#efb73a", "#8fcdf0", "#aab2bd", "#e8dc5a"];

/** Tell whether the page is dark now. */
export function isDark() {
  return state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Return the colours of categories. */
export function palette() {
  return isDark() ? DARK : LIGHT;
}

/** Return the colours of differences: worse, none, better. */
export function diverging() {
  return d3.piecewise(d3.interpolateLab, isDark() ? ["#f08a4b", "#1d222a", "#56b4e9"] : ["#c04f00", "#fbfbfa", "#0072b2"]);
}

/** Return a drawing with the settings that all share. */
export function chart(label, options) {
  const width = Math.max(280, Math.min(1100, byId("figure").clientWidth - (innerWidth >= 1350 ? 360 : 2 * Math.min(22, Math.max(11, innerWidth / 50)))));
  const drawing = Plot.plot({
    width, ariaLabel: label, marginLeft: 56, marginBottom: 42, marginRight: 24, marginTop: 24, ...options,
    style: { background: "transparent", color: "currentColor", fontFamily: "inherit", fontSize: "12px", overflow: "visible" },
    color: { range: palette(), ...options.color },
  });
  for (const node of drawing.matches("svg") ? [drawing] : drawing.querySelectorAll("svg")) {
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    // Parts of a picture have no labels of their own.
    for (const part of node.querySelectorAll("g[aria-label]")) part.removeAttribute("aria-label");
  }
  return drawing;
}

/** Return a figure: drawing, sentence, and its numbers as a table for those who cannot see it. */
export function figure(drawing, sentence, head = [], rows = []) {
  return el("figure", {}, el("div", { class: "drawing" }, drawing), el("figcaption", {}, sentence), rows.length ? numbers(head, rows) : null);
}

function numbers(head, rows) {
  const cell = (value) => el("td", { class: typeof value === "number" ? "number" : null }, typeof value === "number" ? fixed(value, 2) : name(value ?? ""));
  return el("details", { class: "numbers" }, el("summary", {}, "The numbers"), el("div", { class: "board-scroll", tabindex: "0", role: "region", "aria-label": "The numbers of the figure" },
    el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))))));
}

/** Return a choice among options, labelled. */
export function choice(label, options, value, act) {
  const node = el("select", { on: { change: () => act(node.value) } }, options.map(([key, text]) => el("option", { value: key }, text)));
  node.value = value;
  return el("label", { class: "choice" }, el("span", {}, label), node);
}

/** Return a sentence in place of a figure. */
export function instead(text) {
  return el("p", { class: "quiet instead" }, text);
}

/** Return the rows that a figure of few rows is about: the pinned ones, else the best in view. */
export function chosenRows(table, most) {
  const pinned = pinnedRows();
  return (pinned.length ? pinned : visibleRows(table).filter((row) => row.seeds.length)).slice(0, most);
}

/** Say which rows those are. */
export function chosenWords(table, most) {
  if (pinnedRows().length) return "The pinned rows.";
  return table.rows.length === 1 ? "The only row." : `The first ${Math.min(most, table.rows.length)} rows; pin others to see them.`;
}

/** Return labels that tell rows apart, also where two have one name, or one beginning. */
export function labels(rows, length = 28) {
  const taken = new Set();
  return new Map(rows.map((row) => {
    const text = clipped(row.entry, length);
    let label = text;
    for (let times = 2; taken.has(label); times += 1) label = `${text} (${times})`;
    taken.add(label);
    return [row.id, label];
  }));
}

const redraws = [];

/** Call a function when colours change. */
export function onTheme(act) {
  redraws.push(act);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((act) => act()));
onChoice((keys) => { if (keys.has("theme")) redraws.forEach((act) => act()); });
