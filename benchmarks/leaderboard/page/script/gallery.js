// The same few test images with the ground truth and what two rows found; pictures that runs drew.
import { el, name, svg } from "./dom.js";
import { clipped, count } from "./format.js";
import { details } from "./data.js";
import { choice, chosenRows, instead } from "./charts.js";
import { choose, state } from "./state.js";

// On photographs, whatever the theme; the shade below makes them seen on bright ones.
const COLOURS = { truth: "#52e5a8", a: "#62c0f5", b: "#ffb04d" };
const SCORES = ["0.3", "0.5", "0.7", "0.9"];
const PARTS = { "": "Boxes and masks", boxes: "Boxes", masks: "Masks" };

/** Return ground truth, A and B side by side. */
export async function gallery(table) {
  const found = (await details()).galleries[table.position];
  if (!found) return instead("No run of this table kept detections on images that lie here, or the page had no room for them.");
  const rows = table.rows.filter((row) => found.rows[row.place]);
  const pinned = chosenRows(table, 2).filter((row) => rows.includes(row));
  const pick = (id, other) => rows.find((row) => row.id === id) ?? other;
  const first = pick(state.a, pinned[0] ?? rows[0]);
  const second = pick(state.b, pinned[1] ?? rows.find((row) => row !== first) ?? rows[0]);
  const least = SCORES.includes(state.score) ? state.score : "0.3";
  const part = state.part in PARTS ? state.part : "";
  const masked = found.images.some((image) => image.truth.some(([,,,,,, mask]) => mask));
  const options = rows.map((row) => [row.id, clipped(row.entry, 40)]);
  const bar = el("div", { class: "choices" }, choice("A", options, first.id, (a) => choose({ a })), choice("B", options, second.id, (b) => choose({ b })),
    choice("Score at least", SCORES.map((one) => [one, one]), least, (score) => choose({ score })),
    masked ? choice("Show", Object.entries(PARTS), part, (one) => choose({ part: one })) : null);
  const panels = found.images.map((image, place) => {
    const shapes = (row) => (found.rows[row.place][place] ?? []).filter(([,,,,, score]) => score >= Number(least));
    const show = (title, colour, own) => panel(image, own, found.classes, { title, colour, part: masked ? part : "" });
    return el("div", { class: "panels", tabindex: "0", role: "group", "aria-label": image.name }, show("Ground truth", COLOURS.truth, image.truth),
      show(`A: ${first.entry}`, COLOURS.a, shapes(first)), show(`B: ${second.entry}`, COLOURS.b, shapes(second)));
  });
  return el("div", {}, bar, el("div", { class: "gallery" }, panels),
    el("p", { class: "quiet" }, "A few test images, spread over the set: an impression, no measurement. First seed of each row."));
}

function panel(image, shapes, names, { title, colour, part }) {
  const unit = Math.max(image.width, image.height) / 320;
  const drawing = svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, role: "img", "aria-label": `${title}, ${image.name}: ${count(shapes.length, "object")}` },
    svg("image", { href: image.data, width: image.width, height: image.height }));
  if (part !== "boxes") drawing.append(...shapes.map((shape) => shape[6]).filter(Boolean).map((mask) => area(mask, colour, unit)));
  for (const [x1, y1, x2, y2, kind, score] of shapes) {
    const text = `${clipped(names[kind] ?? String(kind), 18)}${score === null ? "" : ` ${Math.round(100 * score)}`}`;
    const size = 11 * unit;
    if (part !== "masks") drawing.append(
      frame([x1, y1, x2, y2], { class: "box-shade", "stroke-width": 4 * unit }),
      frame([x1, y1, x2, y2], { stroke: colour, "stroke-width": 2 * unit }));
    drawing.append(svg("text", { x: x1 + 2 * unit, y: y1 > size ? y1 - 2 * unit : y1 + size, "font-size": size, class: "box-label", fill: colour, "stroke-width": 3 * unit }, text));
  }
  return el("figure", { class: "panel" }, drawing, el("figcaption", {}, name(title, { title })));
}

function frame([x1, y1, x2, y2], look) {
  return svg("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), fill: "none", ...look });
}

/** Return a mask from its outlines, each x, y, x, y …; the inner ones are holes. */
function area(mask, colour, unit) {
  return svg("path", { d: mask.map((outline) => `M${outline.join(" ")}Z`).join(""), class: "mask", fill: colour, stroke: colour, "stroke-width": unit });
}

/** Return the pictures that the runs of rows, and those that made their weights, drew. */
export async function pictures(table) {
  const { runs } = await details();
  const shown = chosenRows(table, 8).flatMap((row) => row.runs.flatMap((id) => [runs[id], makerOf(runs, runs[id])])
    .flatMap((run) => run?.pictures ?? []).map((picture) => pictureNode(picture, row.entry)));
  return shown.length ? el("div", { class: "pictures" }, shown) : instead("The runs of these rows drew no pictures. Pretraining draws reconstructions, the task correspondence draws matches.");
}

/** Return the run that made a run's weights, if this page has it. */
export function makerOf(runs, run) {
  return run?.spec ? runs[run.spec.weights_sha256.replace(/^pretrain:/, "")] : undefined;
}

/** Return a picture with its title, or why it is not there. */
export function pictureNode(picture, entry) {
  if (!picture.data) return el("p", { class: "quiet" }, name(`${picture.title}: ${picture.reason}`));
  return el("figure", { class: "picture" }, el("img", { src: picture.data, alt: `${picture.title} of ${entry}`, loading: "lazy" }), el("figcaption", {}, name(`${picture.title} · ${entry}`)));
}
