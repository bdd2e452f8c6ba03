// The figures of the table in view, one at a time.
import { button, byId, el } from "./dom.js";
import { content } from "./data.js";
import { frontier, frontierCosts } from "./frontier.js";
import { hasPredictions, prediction } from "./prediction.js";
import { hasSeeds, strips } from "./strips.js";
import { epochs, hasEpochs } from "./epochs.js";
import { curves } from "./curves.js";
import { classes } from "./classes.js";
import { sizeKinds, sizes } from "./sizes.js";
import { gallery, pictures } from "./gallery.js";
import { instead, onTheme } from "./charts.js";
import { choose, currentTable, onChoice, state } from "./state.js";

const FIGURES = {
  epochs: { title: "Epochs", fits: hasEpochs, show: epochs },
  cost: { title: "Price", fits: (table) => Boolean(table.headline) && frontierCosts(table).length > 0, show: frontier },
  predict: { title: "ImageNet → COCO", fits: hasPredictions, show: prediction },
  seeds: { title: "Seeds", fits: hasSeeds, show: strips },
  curves: { title: "Curves", fits: (table) => !table.joined, show: curves },
  classes: { title: "Classes", fits: (table) => table.task === "coco", show: classes },
  sizes: { title: "Sizes", fits: (table) => sizeKinds(table).length > 0, show: sizes },
  gallery: { title: "Detections", fits: (table) => table.task === "coco", show: gallery },
  pictures: { title: "Pictures", fits: (table) => !table.joined, show: pictures },
};

let latest = 0;

/** Show the chosen figure of the table in view. */
export async function showFigure() {
  const table = currentTable();
  const fitting = Object.entries(FIGURES).filter(([, one]) => table && one.fits(table));
  byId("figures").hidden = !fitting.length;
  if (!fitting.length) return;
  const [key, chosen] = fitting.find(([one]) => one === state.fig) ?? fitting[0];
  byId("figure-tabs").replaceChildren(...fitting.map(([one, { title }]) =>
    button(title, () => choose({ fig: one, x: "", y: "" }), { class: "figure-tab", "aria-pressed": String(one === key), "data-figure": one })));
  const turn = ++latest;
  let node;
  try {
    node = await chosen.show(table);
  } catch (error) {
    // One figure that cannot be drawn leaves the rest of the page as it is.
    console.error(error);
    node = instead(`This figure cannot be drawn: ${error.message}`);
  }
  if (turn !== latest) return;
  const focused = byId("figure").contains(document.activeElement) ? [...byId("figure").querySelectorAll("select")].indexOf(document.activeElement) : -1;
  byId("figure").replaceChildren(el("div", { "data-shown": key }, node));
  byId("figure").querySelectorAll("select")[focused]?.focus();
}

/** Tell whether the page has any table at all. */
export function isEmpty() {
  return content.tables.length === 0;
}

const CHANGES = ["table", "fig", "x", "y", "pin", "q", "method", "backbone", "seeds", "published", "all", "a", "b", "score", "part"];

onChoice((keys) => {
  if (!CHANGES.some((key) => keys.has(key))) return;
  const tab = document.activeElement?.dataset?.figure;
  showFigure().then(() => { if (tab) byId("figure-tabs").querySelector(`[data-figure="${tab}"]`)?.focus(); });
});
onTheme(showFigure);
let waiting = 0;
let width = innerWidth;
addEventListener("resize", () => {
  clearTimeout(waiting);
  if (innerWidth === width) return;
  width = innerWidth;
  waiting = setTimeout(showFigure, 200);
});
