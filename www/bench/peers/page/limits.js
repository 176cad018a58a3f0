// What register tiles give here, in 1e9 operations a second: tiles.rs.
const { instance } = await WebAssembly.instantiateStreaming(fetch('/work/tiles.wasm'));
const { memory, memory_at, ...tiles } = instance.exports;
const SIZE = 1 << 16;
// Rows and columns of both operands, and lanes, as in tiles.rs.
const [ROWS, COLUMNS, LANES] = [4, 2, 4];
const DEPTH = 384;
const TIMES = 20_000;

/** The products of a lane in one step. */
const PRODUCTS = { int8: 4, int16: 2, f32: 1 };

function speed(name) {
  const at = memory_at();
  if (name === 'f32') new Float32Array(memory.buffer, at, SIZE / 4).forEach((_, i, all) => (all[i] = Math.random() - 0.5));
  // Of 7 bits, so that every engine computes the same.
  else new Uint8Array(memory.buffer, at, SIZE).forEach((_, i, all) => (all[i] = Math.random() * 127));
  const operations = 2 * TIMES * ROWS * COLUMNS * LANES * DEPTH * PRODUCTS[name];
  let best = 0;
  // The first ones are before the engine has optimised them.
  for (let i = 0; i < 12; i++) {
    const start = performance.now();
    tiles[name](TIMES, DEPTH);
    best = Math.max(best, operations / (performance.now() - start) / 1e6);
  }
  return best;
}

globalThis.limits = Object.fromEntries(Object.keys(PRODUCTS).map((name) => [name, speed(name)]));
