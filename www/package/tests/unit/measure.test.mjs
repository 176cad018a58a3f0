// Measuring, against a mock of the wasm module: what is counted, not how long it takes.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { HARDWARE, aimError, gpu, load, reset, sleep, soon } from '../lib/mocked.mjs';
import { source } from '../lib/source.mjs';

after(() => rmSync(fileURLToPath(new URL(`../.build/${process.pid}`, import.meta.url)), { recursive: true, force: true }));

let counts;
beforeEach(() => {
  counts = reset();
  gpu(undefined);
});

/** The fields of `aim-bench bench --json`. */
const FIELDS = ['device', 'adapter', 'dtype', 'batch', 'threads', 'ms_per_image', 'images_per_second', 'tflops', 'peak_share', 'load_s', 'peak_host_bytes', 'peak_device_bytes'];

const near = (a, b) => assert.ok(Math.abs(a / b - 1) < 1e-9, `${a} is not ${b}`);

test('batches run from small to large, and the figures follow from their times', async () => {
  const aim = await load({ ms: 1 });
  const told = [];
  const rows = await aim.measure({ batch: [3, 1], seconds: 0, onmeasurement: (row) => told.push(row) });
  assert.deepEqual(rows.map(({ batch, runs }) => [batch, runs]), [[1, 3], [3, 3]]);
  // Two of each are not timed.
  assert.deepEqual(counts.batches, [1, 1, 1, 1, 1, 3, 3, 3, 3, 3]);
  for (const row of rows) {
    for (const field of FIELDS) assert.ok(field in row, field);
    assert.deepEqual([row.device, row.dtype, row.threads, row.peak_device_bytes], ['wasm', 'q8', 1, null]);
    near(row.ms_per_image * row.images_per_second, 1000);
    near(row.tflops, (2e9 / (row.ms_per_image / 1000)) / 1e12);
    assert.equal(row.peak_tflops, 4);
    near(row.peak_share, row.tflops / 4);
    assert.ok(row.ms_lowest <= row.ms_per_image && row.ms_per_image <= row.ms_highest);
  }
  assert.deepEqual(told.map(({ batch, peak_share }) => [batch, peak_share]), [[1, null], [3, null]]);
  await aim.dispose();
});

test('a GPU has memory of its own and no threads', async () => {
  gpu(HARDWARE);
  const aim = await load();
  const [row] = await aim.measure({ seconds: 0 });
  assert.deepEqual([row.device, row.batch, row.threads, row.peak_device_bytes], ['webgpu', 1, null, 1e6]);
  await aim.dispose();
});

test('a device that tells no peak has no share', async () => {
  const aim = await load({ peakless: true });
  const [row] = await aim.measure({ seconds: 0 });
  assert.deepEqual([row.peak_share, row.peak_tflops], [null, null]);
  assert.ok(row.tflops > 0);
  await aim.dispose();
});

test('the median, the fastest and the slowest of the times', async (context) => {
  const { measure } = await source('measure');
  const { tools } = await source('tools');
  const { Alarm } = await source('abort');
  let clock = 0;
  context.mock.method(performance, 'now', () => clock);
  const times = [500, 500, 9, 100, 10];
  const engine = { info: { flops: 1e9 }, logits: async () => void (clock += times.shift()), peak: async () => 1e12 };
  const [{ ms_lowest, ms_per_image, ms_highest, runs }] = await measure(engine, { seconds: 0 }, new Alarm(), tools);
  assert.deepEqual([ms_lowest, ms_per_image, ms_highest, runs], [9, 10, 100, 3]);
});

test('an onmeasurement that throws costs no measurement', async (context) => {
  const said = context.mock.method(console, 'error', () => {});
  const aim = await load();
  const rows = await aim.measure({ batch: [1, 2], seconds: 0, onmeasurement: ({ batch }) => assert.fail(`mine ${batch}`) });
  assert.equal(rows.length, 2);
  assert.deepEqual(said.mock.calls.map(({ arguments: [{ message }] }) => message), ['mine 1', 'mine 2']);
  await aim.dispose();
});

test('a classifier that nobody holds lives until it is measured', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const stop = new AbortController();
  const reason = new Error('enough');
  const ended = assert.rejects(load({ ms: 5 }).then((aim) => aim.measure({ seconds: 60, signal: stop.signal })), reason);
  for (let i = 0; i < 10; i++) {
    gc();
    await sleep(100);
  }
  stop.abort(reason);
  await ended;
});

test('options are checked, and the call can be given up', async () => {
  const aim = await load({ ms: 5 });
  for (const [options, text] of [
    [{ batch: 0 }, /batch: 0/],
    [{ batch: [] }, /batch/],
    [{ batch: [1, 'two'] }, /'two'/],
    [{ seconds: -1 }, /seconds/],
    [{ onmeasurement: 1 }, /a function/],
    [{ second: 1 }, /nearest is 'seconds'/],
  ]) {
    await assert.rejects(aim.measure(options), aimError('option', text));
  }
  await assert.rejects(aim.measure({ seconds: 60, signal: soon() }), { name: 'TimeoutError' });
  const going = aim.measure({ seconds: 60 });
  setTimeout(() => void aim.dispose(), 30);
  await assert.rejects(going, aimError('disposed'));
  await assert.rejects(aim.measure(), aimError('disposed'));
});
