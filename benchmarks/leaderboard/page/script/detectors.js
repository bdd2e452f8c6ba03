// What built detectors are, and where they differ.
import { details } from "./data.js";
import { MISSING } from "./format.js";

/** Return the facts about the detector of a run, by name; null where none were recorded. */
export function detectorOf(run) {
  const { detector, layout } = run?.details ?? {};
  if (!detector) return null;
  return layout ? { ...detector, "memory format": layout } : detector;
}

/** Return the facts in which rows differ: pairs of a name and one text per row. */
export async function differingFacts(rows) {
  const { runs } = await details();
  const found = rows.map((row) => detectorOf(row.runs.map((id) => runs[id]).find(detectorOf)));
  if (!found.some(Boolean)) return [];
  const names = [...new Set(found.flatMap((facts) => Object.keys(facts ?? {})))];
  const pairs = names.map((fact) => [fact, found.map((facts) => (facts ? facts[fact] ?? MISSING : "not recorded"))]);
  return pairs.filter(([, texts]) => new Set(texts).size > 1);
}
