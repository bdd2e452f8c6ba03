// A metric against a cost, with the rows that nothing beats at their price.
import { el } from "./dom.js";
import { clipped, fixed, interval } from "./format.js";
import { COSTS, comparable, costOf, doubtMark, doubtOf, metricFacts, valueOf } from "./data.js";
import { visibleRows } from "./board_data.js";
import { chart, choice, figure, instead } from "./charts.js";
import { pointNames } from "./point_names.js";
import { choose, state } from "./state.js";

const FIRST = "images_per_second_test";

/** Return the costs that two rows of a table know. */
export function frontierCosts(table) {
  return COSTS.filter((cost) => table.rows.filter((row) => costOf(row, cost.key) !== null).length > 1);
}

/** Return the figure. */
export function frontier(table) {
  const costs = frontierCosts(table);
  const cost = costs.find((one) => one.key === state.x) ?? costs.find((one) => one.key === FIRST) ?? costs[0];
  const metrics = table.columns;
  const metric = metrics.includes(state.y) ? state.y : table.headline;
  const points = visibleRows(table).map((row) => ({ row, entry: row.entry, method: row.method, x: costOf(row, cost.key), ...valueOf(table, row, metric) }))
    .filter((point) => point.x !== null && point.mean !== null).map(({ mean, ...point }) => ({ ...point, y: mean }));
  const bar = el("div", { class: "choices" },
    choice("Against", costs.map((one) => [one.key, one.header]), cost.key, (x) => choose({ x })),
    choice("Metric", metrics.map((one) => [one, one]), metric, (y) => choose({ y })));
  if (points.length < 2) return el("div", {}, bar, instead("Fewer than two rows in view have both numbers."));
  const higher = metricFacts(table, metric).higher;
  const sound = points.filter((point) => comparable(point.row, cost.key));
  const front = paretoFront(sound.filter((point) => !point.row.published), cost.more, higher);
  const words = `${!front.length ? "No row is on the front." : `Of ${points.length} rows, ${front.length === 1 ? "1 is" : `${front.length} are`} on the front: no other row is better in both.`} Whiskers are 95 % intervals.${aboutDoubt(points.length - sound.length, cost)}`;
  return el("div", {}, bar, figure(draw(points, front, cost, metric), words,
    ["entry", cost.header, metric, "95 % interval", "on the front"],
    points.map((point) => [point.row.entry, `${fixed(point.x, cost.decimals)}${doubtMark(point.row, cost.key)}`, point.y, interval(point.low, point.high), front.includes(point) ? "yes" : ""])));
}

function aboutDoubt(count, cost) {
  if (!count) return "";
  const rows = count === 1 ? "1 pale row is" : `${count} pale rows are`;
  return ` ${rows} on no front: other work used the machine while ${cost.header} was measured, or nobody noted whether it did.`;
}

/** Return the points that no other beats in both, from cheap to dear. */
export function paretoFront(points, more, higher) {
  const sign = higher ? 1 : -1;
  const sorted = [...points].sort((one, other) => (more ? other.x - one.x : one.x - other.x) || sign * (other.y - one.y));
  let best = -Infinity;
  return sorted.filter((point) => {
    if (sign * point.y <= best) return false;
    best = sign * point.y;
    return true;
  });
}

function draw(points, front, cost, metric) {
  const log = points.every((point) => point.x > 0) && d3.max(points, (point) => point.x) / d3.min(points, (point) => point.x) > 4;
  const measured = points.filter((point) => !point.row.published);
  const opacity = (point) => (comparable(point.row, cost.key) ? 1 : 0.35);
  const title = (point) => `${clipped(point.row.entry, 60)}\n${metric} ${fixed(point.y)} ${interval(point.low, point.high)}\n${cost.header} ${fixed(point.x, cost.decimals)}${doubtMark(point.row, cost.key)}${doubtOf(point.row, cost.key) ? `\n${doubtOf(point.row, cost.key)}` : ""}`;
  const drawing = chart(`${metric} against ${cost.header}, ${points.length} rows`, {
    height: 420, inset: 12, marginTop: 30,
    x: { type: log ? "log" : "linear", label: `${cost.header} (${cost.more ? "more" : "less"} is cheaper)`, tickFormat: "~s", ticks: 6 },
    y: { label: metric, grid: true, nice: true },
    symbol: { legend: true },
    marks: [
      Plot.line(front, { x: "x", y: "y", curve: "step-after", className: "front" }),
      Plot.ruleX(measured.filter((point) => point.low !== null), { x: "x", y1: "low", y2: "high", strokeOpacity: 0.35 }),
      Plot.dot(measured, { x: "x", y: "y", fill: "method", symbol: "method", r: 4.5, opacity, stroke: "var(--surface)", strokeWidth: 0.7 }),
      Plot.dot(points.filter((point) => point.row.published), { x: "x", y: "y", r: 4, stroke: "var(--quiet)", strokeDasharray: "2,2" }),
      Plot.dot(points.filter((point) => state.pin.includes(point.row.id)), { x: "x", y: "y", r: 9, stroke: "currentColor", strokeWidth: 1.5 }),
      ...pointNames(points, [...points.filter((point) => state.pin.includes(point.row.id)), ...front]),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title })),
    ],
  });
  drawing.addEventListener("click", () => { if (drawing.value) choose({ row: drawing.value.row.id }); });
  return drawing;
}
