// Measurements of a followed training against its epochs.
import { el } from "./dom.js";
import { fixed } from "./format.js";
import { valueOf } from "./data.js";
import { chart, choice, figure, instead } from "./charts.js";
import { choose, state } from "./state.js";

const EPOCH = "epoch";

/** Tell whether a table has measurements of a training by epoch. */
export function hasEpochs(table) {
  return table.joined && table.columns[0] === EPOCH;
}

/** Return the figure. */
export function epochs(table) {
  const metrics = table.columns.slice(1);
  const metric = metrics.includes(state.y) ? state.y : metrics[0];
  const bar = el("div", { class: "choices" }, choice("Metric", metrics.map((one) => [one, one]), metric, (y) => choose({ y })));
  const points = table.rows
    .map((row) => ({ entry: row.entry, epoch: valueOf(table, row, EPOCH).mean, ...valueOf(table, row, metric) }))
    .filter((point) => point.epoch !== null && point.mean !== null)
    .sort((a, b) => a.epoch - b.epoch);
  if (!points.length) return el("div", {}, bar, instead("No checkpoint with a number in its name has this metric."));
  const ends = points.filter((point) => point.low !== null && point.low !== undefined);
  const drawing = chart(`${metric} of ${points.length} checkpoints by epoch`, {
    height: 320, x: { label: "epoch (or step) of the checkpoint", grid: true, nice: true }, y: { label: metric, grid: true, nice: true },
    marks: [
      Plot.ruleX(ends, { x: "epoch", y1: "low", y2: "high", stroke: "var(--accent)", strokeOpacity: 0.4, strokeWidth: 2 }),
      Plot.lineY(points, { x: "epoch", y: "mean", stroke: "var(--accent)", strokeWidth: 1.5 }),
      Plot.dot(points, { x: "epoch", y: "mean", r: 3.5, fill: "var(--accent)", title: (point) => `${point.entry}: ${fixed(point.mean, 2)}` }),
    ],
  });
  const words = `${metric} of each checkpoint of the followed training.${ends.length ? " Bars are 95 % intervals of one checkpoint." : ""}`;
  return el("div", {}, bar, figure(drawing, words, ["checkpoint", EPOCH, metric], points.map((point) => [point.entry, String(point.epoch), point.mean])));
}
