// The page, put together.
import { byId, el, name } from "./dom.js";
import { count, moment } from "./format.js";
import { content, joinedName } from "./data.js";
import { showTables, showTheme } from "./choices.js";
import { showBoard } from "./board.js";
import { showFilters } from "./filters.js";
import { showFigure } from "./figures.js";
import { showComparison, showTray } from "./compare.js";
import { showRow } from "./drawer.js";
import { currentTable, onChoice, state } from "./state.js";

function showTitle() {
  const table = currentTable();
  byId("board-title").replaceChildren(table.joined ? name(joinedName(table)) : name(`${table.task} · ${table.protocol}`), ...marks(table));
  const parts = table.joined
    ? ["Every column has rules of its own, so nothing is ranked here."]
    : [`version ${table.version}`, `data ${table.data}`, `fingerprint ${table.fingerprint.slice(0, 12)}`, table.headline ? `ranked by ${table.headline}` : ""];
  byId("board-about").replaceChildren(name(parts.filter(Boolean).join(" · ")), ...(table.joined ? [el("ul", { class: "rules" }, table.protocol.split("; ").map((text) => el("li", {}, name(text))))] : []));
  const notices = [];
  if (table.mini) notices.push("Embedded mini data: for trying out, not comparable with any published number.");
  if (table.limit !== null) notices.push(`Only the first ${count(table.limit, "image")} of each split: for trying out.`);
  byId("notices").replaceChildren(...notices.map((text) => el("p", { class: "notice mini" }, text)));
}

function marks(table) {
  const words = [table.mini ? "mini" : "", table.limit === null ? "" : `${table.limit} images`].filter(Boolean);
  return words.map((text) => el("span", { class: "mark mini" }, text));
}

function showAbout() {
  byId("about").textContent = `${count(content.num_runs, "run")} · made ${moment(content.generated)}${content.version ? ` by Backbench ${content.version}` : ""}`;
  byId("footer").textContent = "Intervals are 95 %. Only rows under the same protocol, data and version share a table. This page is one file and asks nothing of the network.";
  byId("left-out").hidden = !content.rejected.length;
  byId("left-out").querySelector("ul").replaceChildren(...content.rejected.map(([path, reason]) => el("li", {}, name(path), ": ", name(reason))));
}

function start() {
  showTheme();
  showAbout();
  if (!content.tables.length) {
    byId("board-title").textContent = "No runs yet";
    byId("board-about").textContent = "run.py --suite coco makes the first ones.";
    byId("figures").hidden = true;
    return;
  }
  showTables();
  showTitle();
  showBoard();
  showFilters();
  showTray();
  showFigure();
  if (state.row) showRow();
  if (state.compare) showComparison(true);
  onChoice((keys) => { if (keys.has("table")) showTitle(); });
  document.documentElement.dataset.ready = "yes";
}

start();
