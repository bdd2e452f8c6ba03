// Differences of two rows and how sure they are.
import { metricFacts, metricPlace, valueOf } from "./data.js";

// Two-sided 95 % of Student's t for 1 to 20 degrees of freedom (scipy.special.stdtrit), and of the normal.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086];
const Z95 = 1.96;

/** Return a metric's noise: standard deviation over seeds, its part without the images, freedom. */
export function noiseOf(table, metric) {
  const known = table.statistics?.noise[metric];
  if (known) return { floor: known[0], alone: known[1], freedom: known[2] };
  const groups = table.rows.map((row) => (row.seed_values[metric] ?? []).map(([, value]) => value).filter((value) => value !== null)).filter((values) => values.length > 1);
  const freedom = groups.reduce((sum, values) => sum + values.length - 1, 0);
  if (!freedom) return { floor: null, alone: null, freedom: 0 };
  const squares = groups.reduce((sum, values) => sum + (values.length - 1) * d3.variance(values), 0);
  return { floor: Math.sqrt(squares / freedom), alone: null, freedom };
}

/** Return the difference of two rows in a metric: value, ends of its interval, a word, and what the interval is from. */
export function difference(table, metric, row, base) {
  const [one, other] = [valueOf(table, row, metric).mean, valueOf(table, base, metric).mean];
  if (one === null || other === null || row.published || base.published) return null;
  const value = one - other;
  const { error: images, paired } = imagesError(table, metric, row.place, base.place);
  const seeds = seedsError(table, metric, row, base, images !== null);
  if (images === null && seeds === null) return { value, low: null, high: null, word: "", from: "one seed and no results by image: nothing is known about chance" };
  const half = halfWidth(images ?? 0, seeds ?? 0, (table.statistics?.num_images ?? 0) - 1, noiseOf(table, metric).freedom);
  const [low, high] = [value - half, value + half];
  const better = metricFacts(table, metric).higher ? value > 0 : value < 0;
  const word = low <= 0 && high >= 0 ? "tie" : better ? "better" : "worse";
  const from = [images === null ? "" : paired ? "test images, paired" : "test images, not paired (wider than need be)", seeds === null ? "" : "seeds"].filter(Boolean).join(" and ");
  return { value, low, high, word, from: `95 % interval from ${from}` };
}

/** Return the error that seeds leave in a difference; null where no row has two. */
function seedsError(table, metric, row, base, imagesKnown) {
  const noise = noiseOf(table, metric);
  if (!noise.freedom || noise.floor === null) return null;
  const runs = (one) => Math.max(1, one.seed_values[metric]?.filter(([, value]) => value !== null).length ?? one.seeds.length);
  return (imagesKnown ? noise.alone ?? noise.floor : noise.floor) * Math.sqrt(1 / runs(row) + 1 / runs(base));
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
