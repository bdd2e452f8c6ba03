// Losses, rates and scores over a run.
import { el } from "./dom.js";
import { details } from "./data.js";
import { chart, choice, chosenRows, chosenWords, figure, instead, labels, palette } from "./charts.js";
import { choose, state } from "./state.js";

const MOST = 4;

/** Return the names of the series of runs, "loss" first. */
export function seriesOf(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run?.curves ?? {})))].filter((one) => one !== "step");
  return names.sort((one, other) => (one === "loss" ? -1 : other === "loss" ? 1 : 0));
}

/** Return the figure for the chosen rows. */
export async function curves(table) {
  const { runs } = await details();
  const rows = chosenRows(table, MOST);
  const called = labels(rows);
  const found = rows.flatMap((row) => row.runs.map((id) => ({ label: called.get(row.id), run: runs[id] }))).filter(({ run }) => run?.curves);
  const series = seriesOf(found.map(({ run }) => run));
  if (!series.length) return instead("These rows' runs have no curves.");
  const wanted = series.includes(state.y) ? state.y : series[0];
  const bar = el("div", { class: "choices" }, choice("Curve", series.map((one) => [one, one]), wanted, (y) => choose({ y })));
  const drawing = drawCurves(wanted, found.map(({ label, run }) => ({ label, seed: run.spec.seed, curves: run.curves })));
  return el("div", {}, bar, figure(drawing, `${chosenWords(table, MOST)} One line a seed.`));
}

/** Return a drawing of one series of several runs, each with label, seed and curves. */
export function drawCurves(series, runs, options = {}) {
  const points = runs.flatMap((run, number) => {
    const values = run.curves[series] ?? [];
    const steps = run.curves.step ?? [];
    return values.map((value, place) => ({ x: steps[place] ?? place, value, label: run.label, z: number }));
  }).filter((point) => point.value !== null && point.x !== null);
  const many = new Set(points.map((point) => point.label)).size > 1;
  return chart(`${series} over steps`, {
    height: 320, x: { label: "step", nice: false }, y: { label: series, grid: true, nice: true },
    color: { legend: many, range: palette(), domain: [...new Set(runs.map((run) => run.label))] }, ...options,
    marks: [
      Plot.lineY(points, { x: "x", y: "value", z: "z", stroke: "label", strokeWidth: 1.6 }),
      Plot.dot(points.length < 3 * runs.length ? points : [], { x: "x", y: "value", fill: "label", r: 3 }),
      Plot.ruleX(points, Plot.pointerX({ x: "x", strokeOpacity: 0.2 })),
      Plot.dot(points, Plot.pointer({ x: "x", y: "value", fill: "label", r: 3.5 })),
      Plot.tip(points, Plot.pointer({ x: "x", y: "value", title: (point) => `${point.label}\nstep ${point.x}\n${series} ${d3.format(".4~g")(point.value)}` })),
    ],
  });
}
