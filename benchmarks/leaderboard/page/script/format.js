// Numbers and names as a person reads them.

export const MISSING = "—";

const MINUS = "−";

/** Return a number with so many decimals, or a dash. */
export function fixed(value, decimals = 1) {
  if (value === null || value === undefined || !Number.isFinite(value)) return MISSING;
  return value.toFixed(decimals).replace("-", MINUS);
}

/** Return a number with its sign. */
export function signed(value, decimals = 1) {
  const text = fixed(value, decimals);
  return value > 0 ? `+${text}` : text;
}

/** Return an interval, or nothing where there is none. */
export function interval(low, high, decimals = 1) {
  if (low === null || low === undefined || high === null || high === undefined) return "";
  return `[${fixed(low, decimals)}, ${fixed(high, decimals)}]`;
}

/** Return seconds in the unit that fits. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return MISSING;
  if (seconds < 120) return `${fixed(seconds, 0)} s`;
  if (seconds < 7200) return `${fixed(seconds / 60, 0)} min`;
  return `${fixed(seconds / 3600, 1)} h`;
}

/** Return an ISO time as people write it, in UTC. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? String(text ?? "") : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** Return a number of bytes. */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${fixed(bytes / 1024, 0)} KiB`;
  return bytes < 1024 ** 3 ? `${fixed(bytes / 1024 ** 2, 1)} MiB` : `${fixed(bytes / 1024 ** 3, 2)} GiB`;
}

/** Return the first digits of a checksum; short words stay whole. */
export function short(text, digits = 12) {
  return /^[0-9a-f]{16,}$/.test(text) ? `${text.slice(0, digits)}…` : text;
}

/** Return a text that fits into a label of a figure. */
export function clipped(text, length = 28) {
  const letters = [...String(text)];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : letters.join("");
}

/** Return a count with its noun. */
export function count(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}
