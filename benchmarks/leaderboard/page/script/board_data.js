// Which rows of the table in view pass the filters.
import { state } from "./state.js";

/** Tell whether a row passes all filters. */
export function passes(row) {
  const words = (state.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => row.words.includes(word))
    && (!state.method.length || state.method.includes(row.method))
    && (!state.backbone.length || state.backbone.includes(row.backbone))
    && row.seeds.length >= Number(state.seeds ?? 0)
    && (!state.published || !row.published);
}

/** Return the rows in view, as the table has them. */
export function visibleRows(table) {
  return table.rows.filter(passes);
}

/** Tell whether a table passes the filters of tables. */
export function tablePasses(table) {
  return (!state.protocol.length || table.joined || state.protocol.includes(table.protocol))
    && (!state.data.length || state.data.includes(table.data));
}
