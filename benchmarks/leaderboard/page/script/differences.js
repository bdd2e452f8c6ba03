// Differences of two rows and how sure they are.
import { metricFacts, metricPlace, valueOf } from "./data.js";

// Two-sided 95 % of Student's t for 1 to 20 degrees of freedom (scipy.special.stdtrit), and of the normal.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086];
const Z95 = 1.96;

/** Return a metric's noise: standard deviation over trainings, the table's own degrees of freedom, the stored seed floor. */
export function noiseOf(table, metric, row = null) {
  const known = row?.sure?.fresh ? { ...table.statistics?.noise, ...table.statistics?.fresh_noise } : table.statistics?.noise;
  const [floor, freedom, degrees, stored, source, assumed] = known?.[metric] ?? [null, 0, 0, null, "", false];
  return { floor, freedom, degrees: degrees ?? Infinity, stored, source, assumed };
}

/** Return the difference of two rows in a metric: value, ends of its interval, a word, and what the interval is from. */
export function difference(table, metric, row, base) {
  const [one, other] = [valueOf(table, row, metric).mean, valueOf(table, base, metric).mean];
  if (one === null || other === null || row.published || base.published) return null;
  const value = one - other;
  const { error: images, paired } = imagesError(table, metric, row.place, base.place);
  const [mine, theirs] = [row, base].map((one) => one.sure?.intervals[metricPlace(table, metric)]?.[3] ?? null);
  if (mine === null || theirs === null) return { value, low: null, high: null, word: "", from: "nothing is known about training again" };
  const seeds = Math.hypot(mine, theirs);
  if (images === null && !seeds) return { value, low: null, high: null, word: "", from: "no results by image: nothing is known about chance" };
  const half = halfWidth(images ?? 0, seeds, (table.statistics?.num_images ?? 0) - 1, noiseOf(table, metric).degrees);
  const [low, high] = [value - half, value + half];
  const better = metricFacts(table, metric).higher ? value > 0 : value < 0;
  const word = low <= 0 && high >= 0 ? "tie" : better ? "better" : "worse";
  const single = row.sure.one_seed || base.sure.one_seed;
  const from = [images === null ? "" : paired ? "test images, paired" : "test images, not paired (wider than need be)", single ? "training again, by the seed floor (1 seed)" : "training again"].filter(Boolean).join(" and ");
  return { value, low, high, word, from: `95 % interval from ${from}` };
}

/** Return half of an interval from two errors, each with its degrees of freedom (Satterthwaite 1946, as leaderboard/statistics/chance.py). */
export function halfWidth(images, seeds, imagesFreedom, seedsFreedom) {
  const parts = images ** 4 / Math.max(imagesFreedom, 1) + seeds ** 4 / Math.max(seedsFreedom, 1);
  const freedom = parts > 0 ? Math.max(1, (images ** 2 + seeds ** 2) ** 2 / parts) : Infinity;
  return quantile(freedom) * Math.hypot(images, seeds);
}

/** Return Student's quantile: between whole degrees of freedom, nearly a line over their inverse. */
function quantile(freedom) {
  const most = T95.length;
  const at = (whole) => (whole > most ? Z95 : T95[whole - 1]);
  const [low, high] = freedom >= most ? [most, Infinity] : [Math.floor(freedom), Math.floor(freedom) + 1];
  const share = (1 / low - 1 / freedom) / (1 / low - 1 / high);
  return at(low) + share * (at(high) - at(low));
}

function imagesError(table, metric, one, other) {
  const errors = table.statistics?.errors[metric];
  const [large, small] = [Math.max(one, other), Math.min(one, other)];
  const paired = errors?.[large * (large - 1) / 2 + small] ?? null;
  if (paired !== null || one === other) return { error: paired, paired: true };
  // The page has the best rows' pairs alone. Errors of images that two rows share add up to more than that.
  const [mine, theirs] = [one, other].map((place) => table.rows[place].sure?.intervals[metricPlace(table, metric)]?.[2] ?? null);
  return { error: mine === null || theirs === null ? null : Math.hypot(mine, theirs), paired: false };
}
