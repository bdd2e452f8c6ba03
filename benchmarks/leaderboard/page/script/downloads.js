// The rows and columns in view as files of other programs.
import { button, menu } from "./dom.js";
import { MISSING, fixed } from "./format.js";
import { board } from "./board.js";
import { COSTS, costOf, doubtMark, valueOf } from "./data.js";

/** Return the menu of formats. */
export function downloads() {
  return menu("Download", { "data-key": "download" }, Object.entries(FORMATS).map(([label, [ending, write]]) =>
    button(label, () => save(`backbench.${ending}`, write(view())), { class: "plain" })));
}

function view() {
  const { api, columns, table } = board();
  const rows = api.rows({ search: "applied", order: "applied" }).indexes().toArray().map((place) => table.rows[place]);
  const shown = columns.filter((column, place) => column.key !== "pin" && !column.key.endsWith(" interval") && api.column(place).visible());
  // Outside of this page nothing else tells what others printed from what was measured.
  const source = { key: "source", title: "source", kind: "string", order: (row) => (row.published ? `published: ${row.published.source}` : "measured") };
  return { table, rows, columns: rows.some((row) => row.published) ? [...shown, source] : shown };
}

function cell(table, row, column) {
  if (column.metric) return valueOf(table, row, column.metric).mean;
  const cost = COSTS.find((one) => one.key === column.key);
  return cost ? costOf(row, cost.key) : column.order(row);
}

/** Return the costs of a row that must not be compared, each with the reason. */
function inDoubt(row) {
  return Object.entries(row.doubts).map(([key, doubt]) => `${key}: ${doubt}`).join("; ");
}

function csv({ table, rows, columns }) {
  const head = columns.flatMap((column) => column.metric ? [column.title, `${column.title}_low`, `${column.title}_high`, `${column.title}_spread`] : [column.title]);
  const lines = rows.map((row) => columns.flatMap((column) => {
    if (!column.metric) return [cell(table, row, column)];
    const value = valueOf(table, row, column.metric);
    return [value.mean, value.low, value.high, value.spread];
  }));
  // What a cell says of its row stays last.
  head.splice(-1, 0, "costs_in_doubt");
  lines.forEach((line, place) => line.splice(-1, 0, inDoubt(rows[place])));
  return [head, ...lines].map((line) => line.map(quoted).join(",")).join("\n");
}

/** A text that a spreadsheet would take for a formula gets an apostrophe. */
function quoted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function text(table, row, column) {
  if (!column.metric) {
    const found = cell(table, row, column);
    if (column.key === "seeds" && found === 1) return "1 seed";
    if (COSTS.some((cost) => cost.key === column.key) && found !== null) return `${fixed(found, 1)}${doubtMark(row, column.key)}`;
    return typeof found === "number" ? fixed(found, column.key === "rank" || column.key === "seeds" ? 0 : 1) : String(found ?? MISSING);
  }
  const value = valueOf(table, row, column.metric);
  return value.mean === null ? MISSING : fixed(value.mean) + (value.low === null ? "" : ` ±${fixed((value.high - value.low) / 2)}`);
}

const MEANING = "± and brackets: the 95 % interval, over test images and training again. 1 seed: training again is taken from the protocol's seed floor. † and ?: measured while other work used the machine, or nobody noted whether it did; rows cannot be compared by it.";

function markdown({ table, rows, columns }) {
  const escaped = (words) => words.replace(/[\\|`*_<>\[\]]/g, "\\$&").replace(/\s+/g, " ");
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [MEANING, "", line(columns.map((column) => escaped(column.title))), line(columns.map((column) => column.kind === "measured" ? "---:" : "---")),
    ...rows.map((row) => line(columns.map((column) => escaped(text(table, row, column)))))].join("\n");
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "—": "--", "±": "$\\pm$", "†": "$\\dagger$", "−": "$-$" };

function latex({ table, rows, columns }) {
  const escaped = (words) => words.replace(/[\\~^—±†−]|[&%$#_{}]/g, (letter) => LATEX[letter] ?? `\\${letter}`);
  const shape = columns.map((column) => (column.kind === "measured" ? "r" : "l")).join("");
  const body = rows.map((row) => `${columns.map((column) => latexCell(table, row, column, escaped)).join(" & ")} \\\\`);
  return [`% ${MEANING}`, `\\begin{tabular}{${shape}}`, "\\toprule", `${columns.map((column) => escaped(column.title)).join(" & ")} \\\\`, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n");
}

function latexCell(table, row, column, escaped) {
  const value = column.metric ? valueOf(table, row, column.metric) : null;
  if (!value || value.mean === null || value.low === null) return escaped(text(table, row, column));
  return `${fixed(value.mean)}$_{[${fixed(value.low)}, ${fixed(value.high)}]}$`.replaceAll("−", "-");
}

function json({ table, rows, columns }) {
  const about = { task: table.task, version: table.version, protocol: table.protocol, data: table.data, data_fingerprint: table.fingerprint, mini: table.mini, limit_images: table.limit };
  const plain = rows.map((row) => ({ ...Object.fromEntries(columns.map((column) => [column.key, column.metric ? valueOf(table, row, column.metric) : cell(table, row, column)])), costs_in_doubt: row.doubts }));
  return JSON.stringify({ table: about, rows: plain }, null, 2);
}

const FORMATS = { CSV: ["csv", csv], Markdown: ["md", markdown], LaTeX: ["tex", latex], JSON: ["json", json] };

function save(file, content) {
  const address = URL.createObjectURL(new Blob([`${content}\n`], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
