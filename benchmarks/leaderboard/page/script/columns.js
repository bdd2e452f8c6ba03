// The columns of a table: what they are called, how a cell looks, what they sort by.
import { button, el, name, svg } from "./dom.js";
import { MISSING, fixed, interval, short } from "./format.js";
import { COSTS, costOf, doubtMark, doubtOf, metricFacts, valueOf, whyNoCost } from "./data.js";
import { noiseOf } from "./differences.js";
import { choose, state, togglePin } from "./state.js";

const ABOUT = {
  rank: "By the first metric. Two numbers are the best and the worst rank that the interval allows; a bracket joins rows that cannot be told apart.",
  seeds: "Runs that differ only in the seed; numbers are their mean. With 1 seed, how far a new training may differ is taken from the protocol's seed floor.",
  method: "What made the weights.",
  device_hours: "Hours of the runs behind a row times their devices, mean over seeds, every attempt counted. A run without a GPU took one device.",
  pretrain_device_hours: "Hours of the run that made the weights times its devices. Unknown for weights that came from elsewhere; none for fresh ones.",
};

/** Return the columns of a table, in order. */
export function columnsOf(table) {
  return [
    { key: "pin", title: "Pin", kind: "plain", fixed: true, width: 0, cell: pinCell },
    { key: "rank", title: "#", kind: "measured", fixed: true, width: 0, hidden: table.joined, cell: (row) => rankCell(table, row), order: (row) => row.rank },
    { key: "entry", title: "Entry", kind: "string", fixed: true, width: 0, cell: (row) => entryCell(table, row), order: (row) => row.entry },
    { key: "method", title: "Method", kind: "string", width: 900, cell: (row) => textCell(row.method), order: (row) => row.method },
    { key: "backbone", title: "Backbone", kind: "string", width: 1300, cell: (row) => textCell(row.backbone), order: (row) => row.backbone },
    ...metricColumns(table),
    { key: "seeds", title: "Seeds", kind: "measured", width: 1100, cell: (row) => el("td", { class: "number" }, row.published ? MISSING : String(row.seeds.length)), order: (row) => (row.published ? null : row.seeds.length) },
    ...COSTS.filter((cost) => table.rows.some((row) => costOf(row, cost.key) !== null)).map((cost) => costColumn(cost)),
    { key: "recipe", title: "Recipe", kind: "string", width: Infinity, cell: (row) => textCell(row.recipe), order: (row) => row.recipe },
    { key: "note", title: "Note", kind: "string", width: 700, empty: table.rows.every((row) => !row.note), cell: (row) => el("td", { class: "note" }, name(row.note, { title: row.note })), order: (row) => row.note },
  ].filter((column) => !column.hidden).map((column) => ({ about: ABOUT[column.key] ?? "", ...column }));
}

function metricColumns(table) {
  const order = [...table.columns, ...table.metrics.map(([metric]) => metric).filter((metric) => !table.columns.includes(metric))];
  const filled = order.filter((metric) => table.columns.includes(metric) || table.rows.some((row) => valueOf(table, row, metric).mean !== null));
  return filled.flatMap((metric, place) => {
    const facts = metricFacts(table, metric);
    const shown = [0, 0, 800, 1800][Math.min(place, table.columns.length)] ?? Infinity;
    const about = `${facts.unit}, ${facts.higher ? "more" : "less"} is better`;
    const own = {
      key: metric, title: metric, kind: "measured", metric, about, width: table.joined ? [0, 0, 700, 700, 1000, 1000][place] ?? 1300 : shown,
      cell: (row) => metricCell(table, row, metric), order: (row) => valueOf(table, row, metric).mean,
    };
    const picture = metric === table.headline && table.rows.some((row) => valueOf(table, row, metric).low !== null);
    return picture ? [own, stripColumn(table, metric)] : [own];
  });
}

function stripColumn(table, metric) {
  const ends = table.rows.map((row) => valueOf(table, row, metric)).filter((value) => value.mean !== null)
    .flatMap((value) => [value.low ?? value.mean, value.high ?? value.mean]);
  const scale = [Math.min(...ends), Math.max(...ends)];
  return {
    key: `${metric} interval`, title: `${metric} interval`, kind: "measured", width: 1000,
    about: "The same number and its 95 % interval, all rows on one scale",
    cell: (row) => stripCell(valueOf(table, row, metric), scale, metric),
    order: (row) => valueOf(table, row, metric).mean,
  };
}

function stripCell(value, [from, to], metric) {
  if (value.mean === null || value.low === null) return el("td", {}, "");
  const at = (number) => 4 + 112 * (number - from) / Math.max(to - from, 1e-9);
  const drawing = svg("svg", { viewBox: "0 0 120 16", class: "strip", role: "img",
    "aria-label": `${metric} ${fixed(value.mean)} ${interval(value.low, value.high)}` });
  if (value.low !== null) drawing.append(svg("line", { x1: at(value.low), x2: at(value.high), y1: 8, y2: 8, class: "strip-range" }));
  drawing.append(svg("line", { x1: at(value.mean), x2: at(value.mean), y1: 3, y2: 13, class: "strip-mean" }));
  return el("td", { class: "strip-cell" }, drawing);
}

function costColumn(cost) {
  const width = { parameters_millions: 1200, images_per_second_test: 1350, device_hours: 1450 }[cost.key] ?? Infinity;
  return {
    key: cost.key, title: cost.header, kind: "measured", width, less: !cost.more, about: ABOUT[cost.key] ?? "",
    cell: (row) => costCell(row, cost),
    order: (row) => costOf(row, cost.key),
  };
}

function costCell(row, cost) {
  const value = costOf(row, cost.key);
  if (value !== null) {
    const doubt = doubtOf(row, cost.key);
    return el("td", { class: "number", title: doubt || null }, fixed(value, cost.decimals),
      doubt ? el("span", { class: "quiet", role: "img", "aria-label": doubt }, doubtMark(row, cost.key)) : null);
  }
  const reason = whyNoCost(row, cost.key);
  // Said aloud and on pointing, but not written: the numbers beside it have said it mostly.
  return el("td", { class: "number missing", title: reason }, MISSING, el("span", { class: "visually-hidden" }, reason));
}

function pinCell(row) {
  if (row.published) return el("td", { class: "pin-cell" });
  const box = el("input", { type: "checkbox", "aria-label": `Pin ${row.entry}`, class: "pin", on: {
    change: () => { if (!togglePin(row.id)) box.checked = false; },
  } });
  box.checked = state.pin.includes(row.id);
  return el("td", { class: "pin-cell" }, box);
}

function rankCell(table, row) {
  const lanes = lanesOf(table)[row.place] ?? [];
  const range = row.sure?.rank;
  const wide = range && range[0] !== range[1];
  const text = row.published ? "" : wide ? `${range[0]}–${range[1]}` : row.rank === null ? MISSING : String(row.rank);
  return el("td", { class: "number rank", title: wide ? `measured ${row.rank}; any rank from ${range[0]} to ${range[1]} is possible` : null },
    el("span", { class: "lanes", "aria-hidden": "true" }, lanes.map((part) => el("i", { class: `lane ${part}` }))), text);
}

const laneMemory = new Map();

/** Return for each row the pieces of brackets beside it, one a lane. */
function lanesOf(table) {
  if (laneMemory.has(table)) return laneMemory.get(table);
  const pieces = table.rows.map(() => []);
  const ends = [];
  for (const [first, last] of table.statistics?.brackets ?? []) {
    let lane = ends.findIndex((end) => end < first);
    if (lane < 0) lane = ends.length;
    if (lane > 5) continue;
    ends[lane] = last;
    for (let place = first; place <= last; place += 1) {
      pieces[place][lane] = place === first ? "start" : place === last ? "end" : "middle";
    }
  }
  const found = pieces.map((row) => Array.from(row, (part) => part ?? "none"));
  laneMemory.set(table, found);
  return found;
}

function entryCell(table, row) {
  const open = button(name(row.entry), () => choose({ row: row.id }), { class: "entry", title: row.entry, "aria-haspopup": "dialog" });
  const marks = [
    table.mini || table.limit !== null ? el("span", { class: "mark mini" }, table.mini ? "mini" : `${table.limit} images`) : null,
    row.published ? el("span", { class: "mark published" }, "published") : null,
    row.seeds.length === 1 ? el("span", { class: "mark seed", title: "One training; a new one may differ" }, "1 seed") : null,
  ];
  return el("th", { scope: "row", class: "entry-cell" }, marks, open);
}

function textCell(text) {
  return el("td", { class: "words" }, name(text, { title: text }));
}

/** Return what an interval is over, and of one training where its scatter is from. */
function aboutInterval(table, row, metric, value) {
  if (value.low === null) return row.sure?.note || "no interval is known";
  const images = value.images ? "test images and " : "";
  if (!row.sure.one_seed) return `95 % interval over ${images}training again, from ${row.seeds.length} seeds`;
  if (table.joined) return `1 seed: this training, and a new one may differ. 95 % interval over ${images}training again, as in this metric's own table`;
  const { stored, source, assumed, freedom } = noiseOf(table, metric, row);
  const floor = stored === null ? "the seeds of other rows" : `the protocol's seed floor (${assumed ? "assumed" : "measured"}: ${source})${freedom ? " and the seeds of other rows" : ""}`;
  return `1 seed: this training, and a new one may differ. 95 % interval over ${images}training again, from ${floor}`;
}

function metricCell(table, row, metric) {
  const value = valueOf(table, row, metric);
  if (value.mean === null) {
    return el("td", { class: "number missing", title: value.reason }, MISSING, el("span", { class: "why" }, short(value.reason)));
  }
  const decimals = metricFacts(table, metric).unit === "percent" ? 1 : 2;
  const doubt = interval(value.low, value.high, decimals);
  return el("td", { class: "number", title: row.published ? row.published.source : aboutInterval(table, row, metric, value) },
    el("span", { class: metric === table.headline ? "value head" : "value" }, fixed(value.mean, decimals)),
    doubt ? el("small", { class: "doubt" }, doubt) : null);
}
