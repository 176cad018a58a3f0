// What people call the labels of the built-in model.
const HAND = /^[0-9]$/;
const NAMES = { longsleeve: 'Long sleeve', outwear: 'Outerwear' };

/** True while labels are a visitor's own words, which stay as they are. */
let own = false;

/** Labels are those of a lesson from now on, or those of a model. */
export function useOwnNames(yes) {
  own = yes;
}

/** True for a digit that a hand shows. */
export const isDigit = (label) => !own && HAND.test(label);

/** A label as the page shows it. */
export function title(label) {
  if (own) return label;
  if (isDigit(label)) return `Hand showing ${label}`;
  if (label === 'neither') return 'Neither a hand sign nor a garment';
  if (NAMES[label]) return NAMES[label];
  // ImageNet's labels list synonyms; the first is enough for a heading.
  const name = label.split(',')[0].trim();
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/** Shorter, for lists. */
export function short(label) {
  return label === 'neither' && !own ? 'Neither' : title(label);
}

/** A number of bytes for people. */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  const units = ['kB', 'MB', 'GB'];
  let value = count;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
