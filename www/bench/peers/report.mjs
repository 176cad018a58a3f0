// From measured results to the sections of docs/performance.md. Nothing here touches a file or a clock.
//
// Results are `{ machine, places: { Chromium: { version, limits, sizes: { tiny: { when, about, rows } } } } }`; a row is
// `{ name, dtype, bits, threads, rms, rounds }` or has `failed` in place of the last two.
import { isOurs, isWrong, pairs } from './contenders.mjs';
import { overall, ratio } from './statistics.mjs';

const milliseconds = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0));

/** Every measured place and size: `{ place, size, about, when, rows }`. */
const measured = ({ places }) => Object.entries(places).flatMap(([place, { sizes }]) => Object.entries(sizes).map(([size, rest]) => ({ place, size, ...rest })));

/** The model in words. */
export const modelName = ({ size, embed_dim, num_blocks }) => `${size} (D ${embed_dim} x ${num_blocks})`;

const right = (row) => !row.failed && !isWrong(row);

/**
 * All pairs: `{ place, about, ours, theirs, threads, ratio }`. Where a peer gave no right result there is no pair.
 */
export function ratios(results) {
  return measured(results).flatMap(({ place, about, rows }) => {
    const counts = [...new Set(rows.map(({ threads }) => threads))].sort((a, b) => a - b);
    return counts.flatMap((threads) =>
      pairs(rows.filter((row) => row.threads === threads && right(row))).map(([ours, theirs]) => ({ place, about, ours, theirs, threads, ratio: ratio(ours.rounds, theirs.rounds) })),
    );
  });
}

/** Milliseconds that the products alone would take at the speed of `limits`, 1e9 operations a second on one thread. */
export function leastTime({ linear, rest }, bits, limits) {
  const integer = Math.max(limits.int8, limits.int16 ?? 0);
  // `linear` and `rest` are in millions of products, each with its addition; attention is in f32 in all of them.
  return (2 * linear) / (bits === 32 ? limits.f32 : integer) + (2 * rest) / limits.f32;
}

const table = (head, rows) => [`| ${head.join(' | ')} |`, `|${'---|'.repeat(head.length)}`, ...rows.map((row) => `| ${row.join(' | ')} |`)].join('\n');

const named = ({ name, dtype }) => `${name} ${dtype}`;

export function ratioSection(results) {
  const all = ratios(results);
  const counts = [...new Set(all.map(({ threads }) => threads))].sort((a, b) => a - b);
  const lines = new Map();
  for (const { place, about, ours, theirs, threads, ratio } of all) {
    const key = [place, modelName(about), `${named(ours)} / ${isOurs(theirs) ? 'its own' : theirs.name} ${theirs.dtype}`];
    const cells = lines.get(key.join()) ?? { key, cells: {} };
    cells.cells[threads] = `${ratio.middle < 1 ? '**' : ''}${ratio.middle.toFixed(2)}${ratio.middle < 1 ? '**' : ''} (${ratio.low.toFixed(2)} to ${ratio.high.toFixed(2)})`;
    lines.set(key.join(), cells);
  }
  const head = ['where', 'model', 'ours / theirs', ...counts.map(threadsOf)];
  return `
![Ratios pair by pair](performance.svg)

Our milliseconds for each one of theirs, with weights of as many bits: below 1, in bold, ours is faster. The median of the
rounds, and the lowest and the highest of them.

${table(head, [...lines.values()].map(({ key, cells }) => [...key, ...counts.map((count) => cells[count] ?? '')]))}`;
}

export const threadsOf = (count) => `${count} thread${count === 1 ? '' : 's'}`;

/** The rows of one contender with one type of weights, which differ in their number of threads. */
const grouped = (rows) => [...new Set(rows.map(named))].map((name) => rows.filter((row) => named(row) === name));

/** A line of a table: the times by the number of threads, how much the most threads gain, the error, the share of the limit. */
function line(group, counts, about, limits) {
  const [{ name, dtype, bits }] = group;
  const of = (count) => group.find(({ threads }) => threads === count);
  const each = (count, cell) => {
    const row = of(count);
    return row && right(row) ? cell(row, overall(row.rounds)) : undefined;
  };
  const times = counts.map((count) => {
    const row = of(count);
    if (!row) return '';
    return row.failed?.replaceAll('|', '/') ?? (isWrong(row) ? 'a wrong result' : milliseconds(overall(row.rounds)));
  });
  const [one, most] = [counts[0], counts.at(-1)].map((count) => each(count, (_, time) => time));
  const shares = limits ? counts.map((count) => each(count, (_, time) => `${((100 * leastTime(about, bits, limitsOn(limits, count))) / time).toFixed(0)}%`) ?? '') : [];
  const { rms } = group.find(({ failed }) => !failed) ?? {};
  return [name, dtype, ...times, ...(counts.length > 1 ? [one && most ? (one / most).toFixed(2) : ''] : []), rms?.toExponential(1) ?? '', ...shares];
}

/** The times of a place. */
export function placeSection(results, place) {
  const { version, limits, sizes } = results.places[place];
  const parts = Object.values(sizes).map(({ when, about, rows, rounds, runs, built }) => {
    const counts = [...new Set(rows.map(({ threads }) => threads))].sort((a, b) => a - b);
    const head = ['', 'dtype', ...counts.map((count) => `${threadsOf(count)}, ms`), ...(counts.length > 1 ? ['gain'] : []), 'relative RMS', ...(limits ? counts.map((count) => `of the limit, ${count}`) : [])];
    const products = ((about.linear + about.rest) / 1e3).toFixed(1);
    return `
### ${place}: ${modelName(about)}

${when.slice(0, 10)}, ${version}; ours as built ${built.slice(0, 16).replace('T', ' ')} UTC. ${products} thousand million multiply-adds a picture,
${rounds} rounds of ${runs} pictures.

${table(head, grouped(rows).map((group) => line(group, counts, about, limits)))}`;
  });
  return parts.join('\n');
}

/** Limits of one thread, or a table of them by the number of threads. */
const limitsOn = (limits, threads) => limits[threads] ?? { int8: threads * limits.int8, int16: threads * (limits.int16 ?? 0), f32: threads * limits.f32 };

export function limitSection({ places }) {
  const lines = Object.entries(places).flatMap(([place, { limits }]) => {
    if (!limits) return [];
    const byThreads = 'f32' in limits ? { 1: limits } : limits;
    return Object.entries(byThreads).map(([threads, { int8, int16, f32 }]) => [place, threads, ...[int8, int16, f32].map((speed) => speed?.toFixed(0) ?? '')]);
  });
  return `
In Chromium: a register tile of 4 x 2 vectors in the first-level cache (\`www/bench/peers/tiles.rs\`): int8 is
\`i32x4.relaxed_dot_i8x16_i7x16_add\`, int16 \`i32x4.dot_i16x8\`, f32 \`f32x4.relaxed_madd\`. Natively: the product of two
matrices of 1536 x 1536, int8 by onnxruntime, f32 by PyTorch. In 1e9 operations a second, two for each multiply-add.

"Of the limit", above, is the time that a picture's products would take at this speed, as a share of the time it took: the linear layers
at that of the fastest integers where weights have 8 or 4 bits, all else at that of f32. What is not a product, and how
operands come to the registers, is the rest.

${table(['where', 'threads', 'int8', 'int16', 'f32'], lines)}`;
}

export const howSection = ({ machine }) => `
\`node www/bench/peers/measure.mjs\` writes these sections and the picture; its own text says what it needs. One PyTorch
model with random weights goes to every contender in its own format: onnxruntime as ONNX in f32, in int8 (dynamic, per
channel, MatMul and Gemm) and in 4 bits (MatMulNBits, blocks of 32), LiteRT in f32 and in int8 (dynamic, the fully connected
layers), ours as safetensors, quantised while it loads. int7 is int8 with weights of 7 bits: without VNNI the native
onnxruntime adds two products in 16 bits, which overflows with 8. Each one's logits of all pictures are held against
PyTorch's: "relative RMS". A contender whose result is wrong is not compared.

In Chromium all contenders are open in the same browser, a page each, and take turns, A B C A B C: a pause for threads that
wait for work, an untimed picture, then the timed ones. A time is the median of all rounds. Ours is called by its public
interface, with a picture of 256 x 256 pixels that it crops and normalises in its worker; the peers get the finished tensor
in the page itself. Natively each is a process of its own, and they take turns too; there all get the tensor.

Machine: ${machine}.`;
