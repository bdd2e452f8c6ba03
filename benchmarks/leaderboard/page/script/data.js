// What was measured, as benchmarks/leaderboard/page/document.py wrote it.
import { byId } from "./dom.js";

export const content = await unpack(byId("document").textContent);

/** Costs by position in a row's costs: key, header, decimals, whether more is better. */
export const COSTS = content.costs.map(([key, header, decimals, more]) => ({ key, header, decimals, more }));

let unpacked = null;

/** Return the details of runs; they are unpacked when somebody first asks. */
export function details() {
  unpacked ??= unpack(byId("details").textContent);
  return unpacked;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

for (const [position, table] of content.tables.entries()) {
  table.position = position;
  table.id = tableId(table);
  table.kind = table.limit !== null ? "limited" : table.mini ? "mini" : "real";
  table.rows.forEach((row, place) => describe(table, row, place));
}

/** Tell whether a joined table shows several tasks; others are of a collection or a followed training. */
function severalTasks(table) {
  return table.task.includes(" + ");
}

/** Return what a joined table is called. */
export function joinedName(table) {
  return severalTasks(table) ? "Side by side" : table.task;
}

function tableId(table) {
  const limit = table.limit === null ? "" : `first${table.limit}`;
  const parts = table.joined
    ? ["joined", table.mini ? "mini" : "real", limit, ...(severalTasks(table) ? [] : [table.task, table.protocol.split("; ")[0]])]
    : [table.task, table.protocol, table.fingerprint.slice(0, 6), limit, table.version];
  return parts.filter((part) => part !== "").join("~");
}

/** Give a row what all of the page asks of it. */
function describe(table, row, place) {
  row.place = place;
  row.id = row.published?.id ?? row.runs[0] ?? `row-${place}`;
  row.sure = table.statistics?.rows[place] ?? null;
  row.words = [row.entry, row.backbone, row.method, row.pretrain, row.recipe, row.note, ...row.runs]
    .join(" ").toLowerCase();
}

/** Return the table with an id, else the first. */
export function tableOf(id) {
  return content.tables.find((table) => table.id === id) ?? content.tables[0];
}

/** Return where a metric stands in a row's values, -1 for none. */
export function metricPlace(table, metric) {
  return table.metrics.findIndex(([name]) => name === metric);
}

/** Return what a metric is: its unit, and whether more is better (null: it has no direction here). */
export function metricFacts(table, metric) {
  const [name, unit, higher] = table.metrics[metricPlace(table, metric)] ?? [metric, "", null];
  return { name, unit, higher: higher ?? true };
}

/** Return a row's value of a metric: mean, ends of its interval, whether that is over images too, spread over seeds; or the reason why not. */
export function valueOf(table, row, metric) {
  const place = metricPlace(table, metric);
  const found = place < 0 ? "not a metric of this table" : row.values[place];
  if (!Array.isArray(found)) return { mean: null, low: null, high: null, images: false, spread: null, reason: found || row.note || "no result" };
  const [low, high, images] = row.sure?.intervals[place] ?? [null, null, null];
  return { mean: found[0], low, high, images: (images ?? null) !== null, spread: found[1], reason: "" };
}

/** Return a row's cost by key, null where unknown. */
export function costOf(row, key) {
  return row.costs[COSTS.findIndex((cost) => cost.key === key)] ?? null;
}

/** Return why a row's cost must not be compared, empty where it may. */
export function doubtOf(row, key) {
  const doubt = row.doubts[key];
  return doubt ? `${content.doubts[doubt]}, so rows cannot be compared by it` : "";
}

/** Tell whether a row's cost may be compared with others, or somebody asked for that all the same. */
export function comparable(row, key) {
  return content.loaded_rates || !row.doubts[key];
}

/** Return the mark behind a cost that must not be compared, empty where it may. */
export function doubtMark(row, key) {
  return { loaded: " †", unknown: " ?" }[row.doubts[key]] ?? "";
}

/** Return why a cost is unknown. */
export function whyNoCost(row, key) {
  if (row.published) return "not published";
  if (!row.seeds.length) return row.note || "no result";
  return key === "pretrain_device_hours" ? "unknown: the weights came from elsewhere" : "not measured";
}

/** Return what kind of data a table is about, for people. */
export const KINDS = {
  real: "Real data",
  mini: "Mini data: for trying out",
  limited: "A few images only: for trying out",
};
