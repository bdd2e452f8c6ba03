// Does ImageNet predict COCO?
import { el } from "./dom.js";
import { clipped, fixed, interval } from "./format.js";
import { content } from "./data.js";
import { chart, choice, figure, instead } from "./charts.js";
import { pointNames } from "./point_names.js";
import { choose, state } from "./state.js";

/** Tell whether the page has anything to say about it. */
export function hasPredictions() {
  return content.predictions.length > 0;
}

/** Return the figure of one predicting metric. */
export function prediction() {
  const all = content.predictions;
  const place = Math.min(Number(state.x) || 0, all.length - 1);
  const found = all[place];
  const bar = choice("Predicts it", all.map((one, number) => [number, `${one.x} → ${one.y}${one.mini ? " (mini)" : ""}`]), place, (x) => choose({ x }));
  const about = el("p", { class: "quiet" }, found.mini ? el("span", { class: "mark mini" }, "mini") : null, found.about);
  if (found.points.length < 2) return el("div", {}, el("div", { class: "choices" }, bar), instead(found.sentence));
  return el("div", {}, el("div", { class: "choices" }, bar), coefficients(found), figure(draw(found), found.sentence,
    ["entry", found.x, "95 % interval", found.y, "95 % interval"],
    found.points.map(({ entry, x, y }) => [entry, x[0], interval(x[1], x[2]), y[0], interval(y[1], y[2])])), about);
}

function coefficients(found) {
  const tile = (label, rank) => el("div", { class: "tile" }, el("b", {}, rank ? fixed(rank[0], 2) : "—"),
    el("span", {}, `${label} ${rank ? interval(rank[1], rank[2], 2) : "needs more entries"}`));
  return el("div", { class: "tiles" }, tile("Spearman", found.spearman), tile("Kendall", found.kendall),
    el("div", { class: "tile" }, el("b", {}, String(found.points.length)), el("span", {}, "entries with both")));
}

function draw(found) {
  const points = found.points.map(({ entry, x, y }) => ({ entry, x: x[0], left: x[1], right: x[2], y: y[0], low: y[1], high: y[2] }));
  const title = (point) => `${clipped(point.entry, 60)}\n${found.x} ${fixed(point.x)} ${interval(point.left, point.right)}\n${found.y} ${fixed(point.y)} ${interval(point.low, point.high)}`;
  return chart(`${found.y} against ${found.x} of ${points.length} entries`, {
    height: 420, inset: 16,
    x: { label: found.x, nice: true }, y: { label: found.y, grid: true, nice: true },
    marks: [
      Plot.ruleX(points.filter((point) => point.low !== null), { x: "x", y1: "low", y2: "high", strokeOpacity: 0.3 }),
      Plot.ruleY(points.filter((point) => point.left !== null), { y: "y", x1: "left", x2: "right", strokeOpacity: 0.3 }),
      Plot.dot(points, { x: "x", y: "y", r: 4.5, fill: "var(--accent)", stroke: "var(--surface)", strokeWidth: 0.7 }),
      ...pointNames(points, points),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title })),
    ],
  });
}
