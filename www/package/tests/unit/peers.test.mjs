// What www/bench/peers computes and writes, without a browser.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { chart } from '../../../bench/peers/chart.mjs';
import { busyThreads } from '../../../bench/idle.mjs';
import { contenders, isWrong, pairs } from '../../../bench/peers/contenders.mjs';
import { describe as inWords } from '../../../bench/peers/machine.mjs';
import { leastTime, limitSection, placeSection, ratioSection, ratios } from '../../../bench/peers/report.mjs';
import { median, overall, ratio, relativeRms } from '../../../bench/peers/statistics.mjs';
import { openAll, timeInTurns } from '../../../bench/peers/turns.mjs';

const ABOUT = { size: 'tiny', embed_dim: 192, num_blocks: 12, linear: 1000, rest: 100 };

/** Results with a row for each of `[name, dtype, bits, threads, rounds, rms]`. */
const results = (...rows) => ({
  machine: 'a machine',
  places: {
    Chromium: {
      version: 'Chromium 1',
      limits: { int8: 100, int16: 110, f32: 50 },
      sizes: { tiny: { when: '2026-01-02T03:04:05Z', built: '2026-01-02T03:00:00Z', about: ABOUT, rounds: 2, runs: 2, rows: rows.map(([name, dtype, bits, threads, rounds, rms]) => ({ name, dtype, bits, threads, rounds, rms })) } },
    },
  },
});

describe('statistics', () => {
  test('medians', () => {
    assert.equal(median([10, 9, 100]), 10);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.ok(Number.isNaN(median([])));
    assert.equal(overall([[1, 9], [2]]), 2);
  });

  test('a ratio is that of rounds, so that a slow one counts for both', () => {
    assert.deepEqual(ratio([[1], [10], [3]], [[2], [20], [2]]), { middle: 0.5, low: 0.5, high: 1.5 });
  });

  test('relative RMS', () => {
    assert.equal(relativeRms([3, 4], [3, 4]), 0);
    assert.equal(relativeRms([0, 0], [3, 4]), 1);
    assert.ok(Math.abs(relativeRms([3.3, 4.4], [3, 4]) - 0.1) < 1e-12);
    assert.ok(Number.isNaN(relativeRms([1], [1, 2])));
  });
});

test('how busy a machine is: idle time and that of the lowest priority are free', () => {
  const reading = (...times) => times.map(([user, nice, idle]) => ({ times: { user, nice, idle } }));
  const before = reading([0, 0, 0], [5, 5, 5]);
  assert.equal(busyThreads(before, reading([50, 0, 50], [5, 55, 55])), 0.5);
  assert.equal(busyThreads(before, before), 0);
});

describe('contenders', () => {
  test('each on each number of threads, of the types asked for', () => {
    const all = contenders('Chromium', ['q8'], [1, 2]);
    assert.deepEqual(new Set(all.map(({ bits }) => bits)), new Set([8]));
    assert.equal(all.length, 6);
    assert.deepEqual(contenders('WebGPU', ['fp32'], [1, 2]).map(({ name, threads }) => [name, threads]), [['aim-web', 1], ['onnxruntime-web', 1]]);
  });

  test('zeros, NaN and what JSON makes of it are wrong', () => {
    for (const rms of [1, NaN, null, undefined]) assert.ok(isWrong({ bits: 8, rms }), String(rms));
    assert.ok(!isWrong({ bits: 8, rms: 0.012 }));
    assert.ok(isWrong({ bits: 32, rms: 0.012 }));
  });

  test('pairs have weights of as many bits, and our 4 bits are held against our 8', () => {
    const row = (name, bits) => ({ name, bits });
    const [a, b, c, d] = [row('aim-web', 8), row('aim-web', 4), row('LiteRT.js', 8), row('LiteRT.js', 32)];
    assert.deepEqual(pairs([a, b, c, d]), [[a, c], [b, a]]);
    // On a GPU, against our own floats.
    const [e, f] = [a, row('aim-web', 32)].map((one) => ({ ...one, device: 'webgpu' }));
    assert.deepEqual(pairs([e, f, d]), [[f, d], [e, f]]);
  });
});

describe('turns', () => {
  test('A B A B, of those that open; each starts with an untimed picture', async () => {
    const calls = [];
    const one = (name) => ({ name, dtype: 'q8', threads: 1, open: async () => ({ about: name, picture: async (i) => [i], time: async () => (calls.push(name), 5) }) });
    const broken = { name: 'broken', dtype: 'q8', threads: 1, open: async () => Promise.reject(new Error('no memory\nat line 1')) };
    const opened = await openAll([one('A'), broken, one('B')], 3, [0, 1, 2], 0, () => undefined);
    assert.deepEqual(opened.map(({ rms, failed }) => failed ?? rms), [0, 'no memory', 0]);
    const times = await timeInTurns(opened, { rounds: 2, runs: 2, pictures: 3, settle: 0 });
    assert.equal(calls.join(''), 'AAABBBAAABBB');
    assert.deepEqual(times, [[[5, 5], [5, 5]], [], [[5, 5], [5, 5]]]);
  });
});

describe('report', () => {
  const fast = [[10, 10], [12, 12]];
  const slow = [[20, 20], [30, 30]];
  const all = results(['aim-web', 'q8', 8, 1, fast, 0.01], ['aim-web', 'q8', 8, 2, [[5], [6]], 0.01], ['LiteRT.js', 'int8', 8, 1, slow, 0.01], ['onnxruntime-web', 'int8', 8, 1, [[1], [1]], 1]);

  test('ratios leave out wrong results', () => {
    assert.deepEqual(ratios(all).map(({ theirs, threads, ratio }) => [theirs.name, threads, ratio.middle.toFixed(2)]), [['LiteRT.js', 1, '0.45']]);
    assert.match(ratioSection(all), /\| Chromium \| tiny \(D 192 x 12\) \| aim-web q8 \/ LiteRT\.js int8 \| \*\*0\.45\*\* \(0\.40 to 0\.50\) \|/);
  });

  test('times, the gain of threads, what was wrong', () => {
    const text = placeSection(all, 'Chromium');
    // Its products would take 2000 / 110 + 200 / 50 ms.
    assert.match(text, /\| aim-web \| q8 \| 11\.0 \| 5\.5 \| 2\.00 \| 1\.0e-2 \| 202% \| 202% \|/);
    assert.match(text, /\| LiteRT\.js \| int8 \| 25\.0 \|  \|  \| 1\.0e-2 \| 89% \|  \|/);
    assert.match(text, /\| onnxruntime-web \| int8 \| a wrong result \|  \|  \| 1\.0e\+0 \|  \|  \|/);
    const failed = { ...all.places.Chromium.sizes.tiny, rows: [{ name: 'x', dtype: 'y', bits: 8, threads: 1, failed: 'no | memory', rounds: [] }] };
    assert.match(placeSection({ places: { Chromium: { version: '', sizes: { tiny: failed } } } }, 'Chromium'), /\| x \| y \| no \/ memory \|  \|/);
  });

  test('the limit takes the fastest integers, and f32 for the rest', () => {
    const limits = all.places.Chromium.limits;
    assert.ok(Math.abs(leastTime(ABOUT, 8, limits) - (2000 / 110 + 200 / 50)) < 1e-9);
    assert.ok(Math.abs(leastTime(ABOUT, 32, limits) - 2200 / 50) < 1e-9);
    assert.match(limitSection(all), /\| Chromium \| 1 \| 100 \| 110 \| 50 \|/);
    assert.match(limitSection({ places: { native: { limits: { 1: { int8: 9, f32: 8 }, 2: { int8: 18, f32: 16 } }, sizes: {} } } }), /\| native \| 2 \| 18 \|  \| 16 \|/);
  });

  test('the picture: a bar for each pair, left of 1 where ours is faster, and no markup from names', () => {
    const list = ratios(all);
    const svg = chart([...list, { ...list[0], theirs: { name: '<b>', dtype: '"&' }, ratio: { middle: 2, low: 2, high: 2 } }]);
    const bars = [...svg.matchAll(/<rect x="([\d.]+)"[^>]*width="([\d.]+)"[^>]*fill="(#\w+)"/g)].map(([, x, width, fill]) => [Number(x), Number(width), fill]);
    assert.equal(bars.length, 2);
    const one = bars[0][0] + bars[0][1];
    assert.ok(Math.abs(one - bars[1][0]) < 0.2, 'both bars touch 1');
    assert.notEqual(bars[0][2], bars[1][2]);
    assert.ok(!svg.includes('<b>'));
  });
});

test('the machine in words', () => {
  assert.equal(inWords('AMD EPYC', 2, 'cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 fma\n'), 'AMD EPYC (family 25, model 1), 2 processors, of avx2, avx512f, avx512_vnni, avx_vnni, avx_vnni_int8, asimddp, i8mm it has avx2');
  assert.equal(inWords('Apple M1', 8, ''), 'Apple M1, 8 processors');
});
