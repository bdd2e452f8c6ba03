// One row in full: what it is, and the provenance of each of its runs.
import { button, byId, el, facts, name } from "./dom.js";
import { fixed, interval } from "./format.js";
import { details, valueOf } from "./data.js";
import { makerOf } from "./gallery.js";
import { provenance } from "./provenance.js";
import { choose, currentTable, onChoice, state, togglePin } from "./state.js";

/** Show the open row, or take it away. */
export async function showRow() {
  const dialog = byId("drawer");
  const table = currentTable();
  const row = table?.rows.find((one) => one.id === state.row);
  if (!row) {
    if (dialog.open) dialog.close();
    return;
  }
  const body = el("div", { class: "dialog-body" }, summary(table, row));
  dialog.replaceChildren(header(row), body);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  if (!row.runs.length) return;
  const found = await details();
  body.append(el("div", { id: "run-holder" }));
  showRun(row, found, row.runs.includes(state.run) ? state.run : row.runs[0]);
}

function header(row) {
  const pin = button(state.pin.includes(row.id) ? "Pinned" : "Pin", () => {
    togglePin(row.id);
    pin.textContent = state.pin.includes(row.id) ? "Pinned" : "Pin";
    pin.setAttribute("aria-pressed", String(state.pin.includes(row.id)));
  }, { "aria-pressed": String(state.pin.includes(row.id)) });
  return el("header", {}, el("h2", { id: "drawer-title" }, name(row.entry)), pin, button("Close", () => choose({ row: "" }), { class: "plain close", autofocus: true }));
}

function summary(table, row) {
  const value = table.headline ? valueOf(table, row, table.headline) : null;
  const number = value && value.mean !== null ? `${fixed(value.mean)} ${interval(value.low, value.high)}` : null;
  const range = row.sure?.rank;
  return el("div", {},
    table.mini ? el("p", { class: "notice mini" }, el("span", { class: "mark mini" }, "mini"), "Measured on the embedded mini data: for trying out, not comparable with any published number.") : null,
    table.limit !== null ? el("p", { class: "notice mini" }, `Only the first ${table.limit} images of each split: for trying out.`) : null,
    row.published ? published(row.published) : null,
    facts([[table.headline, number], ["Rank", range ? (range[0] === range[1] ? String(range[0]) : `${range[0]} to ${range[1]}`) : row.rank === null ? null : String(row.rank)],
      ["Backbone", name(row.backbone)], ["Weights", name(row.pretrain)], ["Seeds", row.seeds.join(", ") || "none done"], ["Note", row.note && name(row.note)], ["Intervals", row.sure?.note]]));
}

function published(found) {
  return el("div", { class: "notice" }, "A published number, not measured here and not ranked.", facts(Object.entries(found).map(([key, value]) => [key, name(String(value ?? ""))])));
}

function showRun(row, found, id) {
  const holder = byId("run-holder");
  const run = found.runs[id];
  const maker = makerOf(found.runs, run);
  const tabs = row.runs.length > 1 ? el("div", { class: "run-tabs", role: "group", "aria-label": "Runs" }, row.runs.map((one) => {
    const { spec, status } = found.runs[one] ?? {};
    const label = spec ? `${new Set(row.runs.map((run_id) => found.runs[run_id]?.spec.task)).size > 1 ? `${spec.task} ` : ""}seed ${spec.seed}${status === "done" ? "" : ` (${status})`}` : one;
    return button(label, () => { showRun(row, found, one); byId("run-holder").querySelector("[aria-pressed=true]")?.focus(); }, { "aria-pressed": String(one === id) });
  })) : null;
  if (!run) {
    holder.replaceChildren(...[tabs, el("p", { class: "quiet" }, "Nothing more is known of this run.")].filter(Boolean));
    return;
  }
  const made = maker && maker !== run ? el("details", { class: "maker" }, el("summary", {}, `The run that made the weights: ${maker.labels?.recipe ?? ""}`), ...provenance(maker, run.spec.weights_sha256.replace(/^pretrain:/, ""), found, row.entry).filter(Boolean)) : null;
  holder.replaceChildren(...[tabs, ...provenance(run, id, found, row.entry), made].filter(Boolean));
}

byId("drawer").addEventListener("close", () => choose({ row: "" }));
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
onChoice((keys) => { if (keys.has("row") || keys.has("table")) showRow(); });
