// Every seed of every row, with how far apart chance alone puts them.
import { el } from "./dom.js";
import { fixed } from "./format.js";
import { valueOf } from "./data.js";
import { noiseOf } from "./differences.js";
import { visibleRows } from "./board_data.js";
import { chart, choice, figure, instead, labels } from "./charts.js";
import { choose, pinnedRows, state } from "./state.js";

const MOST = 30;

/** Tell whether some row has two seeds. */
export function hasSeeds(table) {
  return !table.joined && table.rows.some((row) => row.seeds.length > 1);
}

/** Return the figure. */
export function strips(table) {
  const metric = table.columns.includes(state.y) ? state.y : table.headline;
  const bar = el("div", { class: "choices" }, choice("Metric", table.columns.map((one) => [one, one]), metric, (y) => choose({ y })));
  const pinned = pinnedRows();
  const rows = [...pinned, ...visibleRows(table).filter((row) => !pinned.includes(row))].filter((row) => row.seed_values[metric]?.length).slice(0, MOST);
  if (!rows.length) return el("div", {}, bar, instead("No row in view has runs of its own."));
  const noise = noiseOf(table, metric);
  const stored = noise.stored === null ? "" : ` A seed floor of ${fixed(noise.stored, 2)} (${noise.assumed ? "assumed" : "measured"}: ${noise.source}) is in it.`;
  const words = noise.floor === null ? "No row has two seeds, and the protocol has no seed floor, so the scatter over trainings is unknown."
    : `Two trainings of one entry scatter in ${metric} by a standard deviation of ${fixed(noise.floor, 2)} (${noise.freedom} degrees of freedom from all rows).${stored} The band is that wide to both sides of each mean.`;
  return el("div", {}, bar, figure(draw(table, rows, metric, noise.floor), `${words}${rows.length === MOST ? ` The first ${MOST} rows.` : ""}`,
    ["entry", "seed", metric], rows.flatMap((row) => row.seed_values[metric].map(([seed, value]) => [row.entry, String(seed), value]))));
}

function draw(table, rows, metric, floor) {
  const called = labels(rows, 24);
  const points = rows.flatMap((row) => row.seed_values[metric].filter(([, value]) => value !== null).map(([seed, value]) => ({ label: called.get(row.id), seed, value })));
  const means = rows.map((row) => ({ label: called.get(row.id), mean: valueOf(table, row, metric).mean })).filter((point) => point.mean !== null);
  return chart(`${metric} of each seed of ${rows.length} rows`, {
    height: 60 + 24 * rows.length, marginLeft: 178, 
    x: { label: metric, grid: true, nice: true, axis: "both" }, y: { label: null, domain: rows.map((row) => called.get(row.id)), tickSize: 0 },
    marks: [
      floor === null ? null : Plot.ruleY(means, { y: "label", x1: (point) => point.mean - floor, x2: (point) => point.mean + floor, stroke: "var(--accent)", strokeOpacity: 0.2, strokeWidth: 13 }),
      Plot.tickX(means, { x: "mean", y: "label", stroke: "currentColor", strokeWidth: 1.5, inset: 3 }),
      Plot.dot(points, { x: "value", y: "label", r: 3.5, fill: "var(--accent)", stroke: "var(--surface)", strokeWidth: 0.6, title: (point) => `seed ${point.seed}: ${fixed(point.value, 2)}` }),
    ],
  });
}
