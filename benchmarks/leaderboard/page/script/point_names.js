// Names beside the points of a drawing, where they have room.
import { clipped } from "./format.js";

const MOST = 14;
const LENGTH = 22;
// Pixels of half a point, from there to the line of text that names it, of that line, and of the ground that sets it off.
const POINT = 5;
const GAP = 1;
const LINE = 18;
const HALO = 3;
// What Plot has to be told for that distance: it counts from the letters, not from their line.
const DY = 11;
const PLACES = d3.cross(["bottom", "top"], ["middle", "end", "start"]);

/**
 * Return marks that name points, those first in `wanted` first: none over another, over a point or beyond the edges.
 * `points` are all of the drawing: entry, x, y.
 */
export function pointNames(points, wanted) {
  const named = [...new Set(wanted)].map((point) => ({ ...point, text: clipped(point.entry, LENGTH) }));
  let found = null;
  return PLACES.map(([line, anchor]) => Plot.text(named, {
    x: "x", y: "y", text: "text", dy: line === "bottom" ? -DY : DY, textAnchor: anchor, lineAnchor: line,
    className: "labels", stroke: "var(--surface)", strokeWidth: 4, fill: "currentColor",
    // Only now is it known where points lie.
    render: (index, scales, values, size, context, next) => {
      found ??= placesOf(points, named, scales, size.width);
      return next(index.filter((place) => found.get(place)?.line === line && found.get(place)?.anchor === anchor), scales, values, size, context);
    },
  }));
}

/** Return where the names go that have room, by their position among the names. */
function placesOf(points, named, scales, width) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const taken = points.map((point) => around(scales.x(point.x), scales.y(point.y)));
  const found = new Map();
  named.forEach((point, place) => {
    if (found.size >= MOST) return;
    const long = pen.measureText(point.text).width;
    const room = PLACES.map(([line, anchor]) => ({ line, anchor, ...spanned(scales.x(point.x), scales.y(point.y), long, line, anchor) }))
      .find((one) => one.left >= HALO && one.right <= width - HALO && !taken.some((other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom));
    if (!room) return;
    taken.push(room);
    found.set(place, room);
  });
  return found;
}

function around(x, y) {
  return { left: x - POINT, right: x + POINT, top: y - POINT, bottom: y + POINT };
}

function spanned(x, y, long, line, anchor) {
  const away = POINT + GAP;
  const left = { start: x, middle: x - long / 2, end: x - long }[anchor];
  return { left, right: left + long, ...(line === "bottom" ? { top: y - away - LINE, bottom: y - away } : { top: y + away, bottom: y + away + LINE }) };
}
