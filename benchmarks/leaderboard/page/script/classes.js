// Where two rows differ, class by class.
import { el } from "./dom.js";
import { fixed, signed } from "./format.js";
import { details } from "./data.js";
import { chart, choice, chosenRows, diverging, figure, instead, labels } from "./charts.js";
import { choose, state } from "./state.js";

const MOST_ROWS = 8;
const FEW = 30;

/** Return the figure: differences from the first chosen row. */
export async function classes(table) {
  const { classes: known } = await details();
  const { names, values } = known[table.position] ?? { names: [], values: [] };
  const rows = chosenRows(table, MOST_ROWS).filter((row) => values[row.place]?.some((value) => value !== null));
  if (!names.length || rows.length < 2) return instead("Pin two rows with results by class to see where they differ.");
  const [base, ...others] = rows;
  const called = labels(rows, 20);
  const spread = (place) => d3.max(others, (row) => Math.abs((values[row.place][place] ?? 0) - (values[base.place][place] ?? 0)));
  const sorted = d3.sort(d3.range(names.length), (place) => -spread(place));
  const chosen = state.all ? sorted : sorted.slice(0, FEW);
  const cells = chosen.flatMap((place) => others.map((row) => ({
    label: names[place], row: called.get(row.id), value: values[row.place][place], base: values[base.place][place],
  }))).filter((cell) => cell.value !== null && cell.base !== null).map((cell) => ({ ...cell, difference: cell.value - cell.base }));
  const bar = el("div", { class: "choices" }, names.length > FEW ? choice("Classes", [["", `The ${FEW} that differ most`], ["1", `All ${names.length}`]], state.all ?? "", (all) => choose({ all })) : null);
  return el("div", {}, bar, figure(draw(cells, chosen.map((place) => names[place]), others.map((row) => called.get(row.id)), called.get(base.id), table.headline),
    `${table.headline} by class, less that of ${base.entry}. Blue is better, orange is worse; classes of few objects differ by chance.`,
    ["class", base.entry, ...others.map((row) => row.entry)],
    chosen.map((place) => [names[place], values[base.place][place], ...others.map((row) => values[row.place][place])])));
}

function draw(cells, names, columns, base, metric) {
  const most = d3.max(cells, (cell) => Math.abs(cell.difference)) || 1;
  const clip = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  return chart(`Differences of ${metric} from ${base} by class`, {
    height: 70 + 22 * names.length, marginLeft: 140, marginTop: 44, marginBottom: 12, padding: 0.04,
    x: { label: null, domain: columns, axis: "top", tickSize: 0 }, y: { label: null, domain: names, tickSize: 0, tickFormat: clip },
    color: { type: "diverging", pivot: 0, domain: [-most, most], interpolate: diverging(), range: undefined, legend: true, label: `${metric} difference` },
    marks: [
      Plot.cell(cells, { x: "row", y: "label", fill: "difference", inset: 0.5, rx: 2, title: (cell) => `${cell.label}: ${fixed(cell.value)} against ${fixed(cell.base)}` }),
      Plot.text(cells, { x: "row", y: "label", text: (cell) => signed(cell.difference), fill: "currentColor" }),
    ],
  });
}
