// Small, medium and large objects.
import { el } from "./dom.js";
import { interval } from "./format.js";
import { valueOf } from "./data.js";
import { chart, choice, chosenRows, chosenWords, figure, instead, labels, palette } from "./charts.js";
import { choose, state } from "./state.js";

const SIZES = { s: "small", m: "medium", l: "large" };
const MOST = 6;

/** Return the kinds of objects that a table has numbers by size of: box, mask. */
export function sizeKinds(table) {
  return ["box", "mask"].filter((kind) => table.rows.some((row) => Object.keys(SIZES).some((size) => valueOf(table, row, `AP${size}${kind}`).mean !== null)));
}

/** Return the figure. */
export function sizes(table) {
  const kinds = sizeKinds(table);
  const kind = kinds.includes(state.y) ? state.y : kinds[0];
  const rows = chosenRows(table, MOST);
  const called = labels(rows, 22);
  const points = rows.flatMap((row) => Object.entries(SIZES).map(([size, word]) => ({ row, label: called.get(row.id), word, ...valueOf(table, row, `AP${size}${kind}`) }))).filter((point) => point.mean !== null);
  const bar = el("div", { class: "choices" }, choice("Of", kinds.map((one) => [one, one]), kind, (y) => choose({ y })));
  if (!points.length) return el("div", {}, bar, instead("These rows have no numbers by size."));
  const drawing = chart(`AP ${kind} by size of objects`, {
    height: 70 + 3 * (26 * rows.length + 14), marginLeft: 178, marginRight: 96, axis: null,
    x: { label: `AP ${kind}`, grid: true, nice: true, zero: true, axis: "bottom" }, y: { domain: rows.map((row) => called.get(row.id)), axis: "left", label: null, tickSize: 0 },
    fy: { domain: Object.values(SIZES), label: null, axis: null, padding: 0.12 },
    color: { range: palette(), domain: rows.map((row) => called.get(row.id)) },
    marks: [
      Plot.axisFy({ anchor: "right", label: null, dx: 30 }),
      Plot.ruleX([0], { strokeOpacity: 0.4 }),
      Plot.barX(points, { fy: "word", y: "label", x: "mean", fill: "label", fillOpacity: 0.75, insetTop: 3, insetBottom: 3, rx: 2 }),
      Plot.ruleY(points.filter((point) => point.low !== null), { fy: "word", y: "label", x1: "low", x2: "high", stroke: "currentColor", strokeWidth: 1.4 }),
      Plot.text(points, { fy: "word", y: "label", x: (point) => point.high ?? point.mean, text: (point) => point.mean.toFixed(1), dx: 6, textAnchor: "start" }),
    ],
  });
  return el("div", {}, bar, figure(drawing, `${chosenWords(table, MOST)} Small, medium and large as COCO has them: areas below 32², up to 96², and above, in pixels.`,
    ["entry", "size", "AP", "95 % interval"], points.map((point) => [point.row.entry, point.word, point.mean, interval(point.low, point.high)])));
}
