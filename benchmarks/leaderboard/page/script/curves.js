// Losses, rates and scores over a run.
import { el } from "./dom.js";
import { details } from "./data.js";
import { chart, choice, chosenRows, chosenWords, figure, instead, labels, palette } from "./charts.js";
import { choose, state } from "./state.js";

const MOST = 4;
// Up to so many points of a line are marked.
const FEW = 50;

/** Return the names of the series of runs: "loss" first, then what was evaluated on the way. */
export function seriesOf(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run?.curves ?? {})))].filter((one) => one !== axisOf(one));
  const place = (one) => (one === "loss" ? 0 : one.includes("/") ? 1 : 2);
  return names.sort((one, other) => place(one) - place(other));
}

/** Return the series that another lies over: "step", or GROUP/step for GROUP/NAME. */
function axisOf(series) {
  return series.includes("/") ? series.replace(/[^/]*$/, "step") : "step";
}

/** Return what a reader calls a series: APbox for evaluation/APbox. */
export function calledCurve(series) {
  return series.replace(/^.*\//, "");
}

/** Return the figure for the chosen rows. */
export async function curves(table) {
  const { runs, fewer_curves: fewer } = await details();
  const rows = chosenRows(table, MOST);
  const called = labels(rows);
  const found = rows.flatMap((row) => row.runs.map((id) => ({ label: called.get(row.id), run: runs[id] }))).filter(({ run }) => run?.curves);
  const series = seriesOf(found.map(({ run }) => run));
  if (!series.length) return instead("These rows' runs have no curves.");
  const wanted = series.includes(state.y) ? state.y : series[0];
  const bar = el("div", { class: "choices" }, choice("Curve", series.map((one) => [one, calledCurve(one)]), wanted, (y) => choose({ y })));
  const drawing = drawCurves(wanted, found.map(({ label, run }) => ({ label, seed: run.spec.seed, curves: run.curves })));
  const without = rows.filter((row) => !row.runs.some((id) => runs[id]?.curves?.[wanted])).map((row) => called.get(row.id));
  const lacking = without.length ? ` No such curve in the records of ${without.join(", ")}.` : "";
  return el("div", {}, bar, figure(drawing, `${chosenWords(table, MOST)} One line a seed.${lacking}${fewer ? " So many runs leave room for these curves only; the records have the others." : ""}`));
}

/** Return a drawing of one series of several runs, each with label, seed and curves. */
export function drawCurves(series, runs, options = {}) {
  const points = runs.flatMap((run, number) => {
    const values = run.curves[series] ?? [];
    const steps = run.curves[axisOf(series)] ?? [];
    return values.map((value, place) => ({ x: steps[place] ?? place, value, label: run.label, z: number }));
  }).filter((point) => point.value !== null && point.x !== null);
  const many = new Set(points.map((point) => point.label)).size > 1;
  const called = calledCurve(series);
  return chart(`${called} over steps`, {
    height: 320, x: { label: "step", nice: false }, y: { label: called, grid: true, nice: true },
    color: { legend: many, range: palette(), domain: [...new Set(runs.map((run) => run.label))] }, ...options,
    marks: [
      Plot.lineY(points, { x: "x", y: "value", z: "z", stroke: "label", strokeWidth: 1.6 }),
      Plot.dot(points.length < FEW * runs.length ? points : [], { x: "x", y: "value", fill: "label", r: 3 }),
      Plot.ruleX(points, Plot.pointerX({ x: "x", strokeOpacity: 0.2 })),
      Plot.dot(points, Plot.pointer({ x: "x", y: "value", fill: "label", r: 3.5 })),
      Plot.tip(points, Plot.pointer({ x: "x", y: "value", title: (point) => `${point.label}\nstep ${point.x}\n${called} ${d3.format(".4~g")(point.value)}` })),
    ],
  });
}
