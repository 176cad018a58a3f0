// What is computed from times.

/** The middle one; of an even number the mean of the two in the middle. NaN of none. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length === 0 ? NaN : sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** The median of all rounds' times together. */
export const overall = (rounds) => median(rounds.flat());

/**
 * How long `ours` takes for each millisecond of `theirs`, both as lists of rounds with the times in each. Rounds are
 * compared one by one, so that what slows the machine down for a while falls on both sides.
 */
export function ratio(ours, theirs) {
  const each = ours.slice(0, theirs.length).map((times, round) => median(times) / median(theirs[round]));
  return { middle: median(each), low: Math.min(...each), high: Math.max(...each) };
}

/** The root of the mean square of what differs, relative to that of the reference; NaN where the lengths differ. */
export function relativeRms(values, reference) {
  if (values.length !== reference.length) return NaN;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < reference.length; i++) {
    difference += (values[i] - reference[i]) ** 2;
    size += reference[i] ** 2;
  }
  return Math.sqrt(difference / size);
}
