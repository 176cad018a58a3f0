// What the report of a training means, for people.
const times = (count) => ['never', 'once', 'twice'][count] ?? `${count} times`;

/** How good a lesson is, and what would help. */
export function inWords({ accuracy, heldOut, perClass, confusion }) {
  if (accuracy === null) return { score: 'It learnt from all pictures, so nothing says how good it is.', advice: '' };
  const right = perClass.reduce((sum, { right }) => sum + right, 0);
  const verdict = accuracy >= 0.95 ? 'Very good' : accuracy >= 0.85 ? 'Good' : accuracy >= 0.7 ? 'Fair' : 'Not good yet';
  const few = heldOut < 10 ? ' These are few: with more pictures the score says more.' : '';
  const score = `${verdict}. Of ${heldOut} pictures that it was not shown while it learnt, it named ${right === heldOut ? 'all' : right} rightly.${few}`;
  let worst = { count: 0 };
  confusion.forEach((row, shown) =>
    row.forEach((count, named) => {
      if (shown !== named && count > worst.count) worst = { count, shown: perClass[shown].label, named: perClass[named].label };
    }),
  );
  const advice = worst.count > 0 ? `It took “${worst.shown}” for “${worst.named}” ${times(worst.count)}: show it more of both, from other sides and in other light.` : '';
  return { score, advice };
}
