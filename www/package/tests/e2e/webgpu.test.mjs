// WebGPU on a software adapter: correct and slow, so on the small model.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { loseInWorker, open, site } from '../lib/site.mjs';
import { writeZeros } from '../lib/small-model.mjs';

let browser;
let served;
const folder = mkdtempSync(join(tmpdir(), 'aim-web-wide-'));
before(async () => {
  browser = await launch({ webgpu: 'software', args: ['--js-flags=--expose-gc'] });
  // As wide as the 1B: matrices of up to 16.8 million weights.
  writeZeros(folder, { embed_dim: 2048, img_size: 28, num_blocks: 1, num_heads: 16, probe_layers: [0] });
  served = await site({ mounts: { '/wide/': folder }, answer: loseInWorker });
});
after(async () => {
  await browser?.close();
  await served?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function visit(body) {
  served.log.length = 0;
  const page = await open(browser, served.url);
  try {
    return { result: await page.evaluate(body), log: [...served.log] };
  } finally {
    await page.context().close();
  }
}

test('auto leaves a software adapter alone, and says so', async () => {
  const { result, log } = await visit(async () => {
    const aim = await lib.AimClassifier.fromPretrained('/small/');
    return [aim.device, aim.info.reason];
  });
  assert.equal(result[0], 'wasm');
  assert.match(result[1], /software.*swiftshader/i);
  assert.equal(log.some((path) => path.includes('/wasm/webgpu/')), false);
});

test('large matrices pass through the heap and leave it', async () => {
  const { result } = await visit(async () => {
    const aim = await lib.AimClassifier.fromPretrained('/wide/', { device: 'webgpu', dtype: 'fp16', warmup: false, cache: false });
    const { info } = aim;
    await aim.dispose();
    return info;
  });
  assert.equal(result.dtype, 'fp16');
  assert.ok(result.bytesFetched > 200e6);
  // One of them is 34 MB; with a second copy of it the heap would have over 150 MB.
  assert.ok(result.wasmBytes < 120e6, `${result.wasmBytes} bytes`);
});

test('asked for: the same answers as the CPU, and only the WebGPU build is fetched for it', async () => {
  const { result, log } = await visit(async () => {
    const gpu = await lib.AimClassifier.fromPretrained('/small/', { device: 'webgpu' });
    const before = performance.getEntriesByType('resource').length;
    const cpu = await lib.AimClassifier.fromPretrained('/small/', { device: 'wasm' });
    const canvas = testCanvas();
    const [a, b] = [await gpu.logits(canvas), await cpu.logits(canvas)];
    const scores = [await gpu.classify(canvas, { top_k: 12 }), await cpu.classify(canvas, { top_k: 12 })].map((list) => list.sort((x, y) => x.index - y.index).map(({ score }) => score));
    const features = [await gpu.features(canvas, { layers: [0, 2] }), await cpu.features(canvas, { layers: [0, 2] })];
    return {
      devices: [gpu.device, cpu.device],
      adapter: gpu.info.adapter,
      kernels: gpu.info.kernels,
      logits: difference(a, b) / Math.max(...b.map(Math.abs)),
      scores: difference(...scores),
      features: difference(features[0].data, features[1].data) / Math.max(...features[1].data.map(Math.abs)),
      dims: features.map(({ dims }) => dims),
      before,
    };
  });
  assert.deepEqual(result.devices, ['webgpu', 'wasm']);
  assert.match(result.adapter, /swiftshader/i);
  // To wgpu a browser does not tell that an adapter is software, which takes the small ones alone.
  assert.match(result.kernels, /^tiles of 64 x 64/);
  assert.ok(result.logits < 1e-4, `logits off by ${result.logits}`);
  assert.ok(result.scores < 1e-3, `scores off by ${result.scores}`);
  assert.ok(result.features < 1e-4, `features off by ${result.features}`);
  assert.deepEqual(result.dims, [[2, 64, 64], [2, 64, 64]]);
  assert.ok(log.some((path) => path.endsWith('/wasm/webgpu/aim_web_bg.wasm')));
});

test('a lesson learns from features of the GPU what it learns from those of the CPU, and outlives the GPU', async () => {
  const { result } = await visit(async () => {
    const scores = [];
    for (const device of ['webgpu', 'wasm']) {
      const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device, dtype: 'fp32', worker: false });
      const lesson = aim.teach({ head: 'attention' });
      await lesson.add('hand', ['/photo/2.jpg', '/photo/5.jpg', '/photo/7.jpg']);
      await lesson.add('garment', ['/photo/dress.jpg', '/photo/shoes.jpg', '/photo/pants.jpg']);
      await lesson.train({ epochs: 5 });
      const mine = lesson.classifier;
      const ask = async () => Object.fromEntries((await mine.classify('/photo/9.jpg')).map(({ label, score }) => [label, score]));
      scores.push(await ask());
      if (device === 'webgpu') {
        loseDevice();
        scores.push(await ask());
        await lesson.train({ epochs: 1 });
      }
      await aim.dispose();
    }
    return scores;
  });
  const [gpu, after, cpu] = result;
  assert.deepEqual(Object.keys(gpu).sort(), ['garment', 'hand']);
  for (const other of [after, cpu]) assert.ok(Math.abs(gpu.hand - other.hand) < 0.02, JSON.stringify(result));
});

test('a browser that never gives the device: the CPU, with the reason', async () => {
  const { result } = await visit(async () => {
    Object.defineProperty(GPUAdapter.prototype, 'info', { get: () => ({ vendor: 'acme', architecture: 'gen9', device: '', description: '' }) });
    GPUAdapter.prototype.requestDevice = () => new Promise(() => {});
    const aim = await lib.AimClassifier.fromPretrained('/tiny/', { worker: false });
    return [aim.device, aim.info.reason];
  });
  assert.equal(result[0], 'wasm');
  assert.match(result[1], /WebGPU failed.*no GPU device that answers within 5 seconds/);
});

test('a device whose reads never end: the CPU within seconds, with the reason', async () => {
  const { result } = await visit(async () => {
    // As a GPU of a name, which `auto` would take.
    const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'info');
    const named = (info) => new Proxy(info, { get: (of, key) => (typeof of[key] === 'string' ? 'acme' : key === 'isFallbackAdapter' ? false : of[key]) });
    Object.defineProperty(GPUAdapter.prototype, 'info', { get() { return named(get.call(this)); } });
    let reads = 0;
    GPUBuffer.prototype.mapAsync = () => new Promise(() => (reads += 1));
    const begun = performance.now();
    const aim = await lib.AimClassifier.fromPretrained('/small/', { worker: false });
    const seconds = (performance.now() - begun) / 1000;
    return { device: aim.device, reason: aim.info.reason, reads, seconds, labels: (await aim.classify(testCanvas())).length };
  });
  assert.equal(result.device, 'wasm');
  assert.match(result.reason, /answers within 5 seconds/);
  assert.equal(result.reads, 1);
  assert.ok(result.seconds > 4, `${result.seconds} s`);
  assert.equal(result.labels, 5);
});

test('an adapter without timestamps, as many phones have: on the GPU', async () => {
  const { result } = await visit(async () => {
    const without = ({ prototype }) => {
      const { get } = Object.getOwnPropertyDescriptor(prototype, 'features');
      Object.defineProperty(prototype, 'features', { get() { return new Set([...get.call(this)].filter((name) => name !== 'timestamp-query')); } });
    };
    [GPUAdapter, GPUDevice].forEach(without);
    const asked = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = function (options) {
      asked.push(...(options.requiredFeatures ?? []));
      return requestDevice.call(this, options);
    };
    const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device: 'webgpu', worker: false });
    return { device: aim.device, asked: asked.includes('timestamp-query'), labels: (await aim.classify(testCanvas())).length };
  });
  assert.deepEqual(result, { device: 'webgpu', asked: false, labels: 5 });
});

test('dispose gives the GPU back, and the next classifier works', async () => {
  const { result } = await visit(async () => {
    const devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const device = await requestDevice.apply(this, args);
      devices.push(device);
      return device;
    };
    const canvas = testCanvas();
    const logits = [];
    for (let i = 0; i < 2; i++) {
      const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device: 'webgpu', worker: false });
      logits.push(await aim.logits(canvas));
      await aim.dispose();
    }
    return { reasons: (await Promise.all(devices.map(({ lost }) => lost))).map(({ reason }) => reason), same: difference(...logits) };
  });
  assert.deepEqual(result, { reasons: ['destroyed', 'destroyed'], same: 0 });
});

describe('a device that is destroyed', () => {
  for (const worker of [true, false]) {
    test(`${worker ? 'in a worker' : 'in the page'}: rebuilt once, then the CPU takes over, and no request is lost`, async () => {
      const { result } = await visit(
        new Function(`return (${async (worker) => {
          const aim = await lib.AimClassifier.fromPretrained('/small/', { device: 'webgpu', worker });
          const canvas = testCanvas();
          const right = await aim.logits(canvas);
          const scale = Math.max(...right.map(Math.abs));
          const states = [];
          for (let i = 0; i < 3; i++) {
            // A request is under way when the device goes, and more wait.
            const requests = [aim.logits(canvas), aim.logits(canvas)].map((request) =>
              request.then((logits) => difference(logits, right) / scale, (error) => `${error.name} ${error.code}`),
            );
            // The CPU is not lost.
            if (aim.device === 'webgpu') await loseDevice();
            states.push({ requests: await Promise.all(requests) });
            const after = await aim.logits(canvas);
            Object.assign(states[i], { after: difference(after, right) / scale, device: aim.device, reason: aim.info.reason });
          }
          await aim.dispose();
          // The device is told of also when nobody asks for anything.
          const idle = await lib.AimClassifier.fromPretrained('/small/', { device: 'webgpu', worker });
          await loseDevice();
          // A software GPU takes many seconds to try its kernels.
          for (let i = 0; i < 1200 && !/rebuilt/.test(idle.info.reason); i++) await new Promise((resolve) => setTimeout(resolve, 50));
          states[0].idle = idle.info.reason;
          await idle.dispose();
          return states;
        }})(${worker})`),
      );
      for (const { requests, after: later } of result) {
        for (const ended of requests) assert.ok(ended === 'AimError device_lost' || ended < 1e-4, `a request ended as ${ended}`);
        assert.ok(later < 1e-4, `off by ${later} afterwards`);
      }
      assert.deepEqual(result.map(({ device }) => device), ['webgpu', 'wasm', 'wasm']);
      assert.match(result[0].reason, /rebuilt/);
      assert.match(result[0].idle, /rebuilt/);
      assert.match(result[1].reason, /the GPU was lost/);
    });
  }
});

test('a device that is destroyed when the server is gone is rebuilt', async () => {
  const gone = await site({ answer: loseInWorker });
  const page = await open(browser, gone.url);
  await page.evaluate(async () => void (globalThis.aim = await lib.AimClassifier.fromPretrained(undefined, { device: 'webgpu', warmup: false })));
  await gone.close();
  const result = await page.evaluate(async () => {
    const right = await aim.logits(testCanvas());
    await loseDevice();
    const again = await aim.logits(testCanvas());
    return [aim.device, aim.info.reason, difference(right, again) / Math.max(...right.map(Math.abs))];
  });
  await page.context().close();
  assert.equal(result[0], 'webgpu', result[1]);
  assert.match(result[1], /rebuilt/);
  assert.ok(result[2] < 1e-4, `off by ${result[2]}`);
});

test('500 frames leave the wasm heap and the number of GPU buffers as they were', async () => {
  const { result } = await visit(async () => {
    // Counted where the device is, so without a worker. A buffer is gone when it is destroyed or collected.
    let live = 0;
    const collected = new FinalizationRegistry((destroyed) => {
      if (!destroyed.done) live -= 1;
    });
    const states = new WeakMap();
    const { createBuffer } = GPUDevice.prototype;
    const { destroy } = GPUBuffer.prototype;
    GPUDevice.prototype.createBuffer = function (...args) {
      const buffer = createBuffer.apply(this, args);
      const state = { done: false };
      states.set(buffer, state);
      collected.register(buffer, state);
      live += 1;
      return buffer;
    };
    GPUBuffer.prototype.destroy = function () {
      const state = states.get(this);
      if (!state.done) live -= 1;
      state.done = true;
      return destroy.call(this);
    };
    const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device: 'webgpu', worker: false });
    const canvas = testCanvas();
    const seen = [];
    for (let i = 0; i < 500; i++) {
      await aim.classifyForVideo(canvas, i);
      if (i % 100 !== 99) continue;
      for (let j = 0; j < 3; j++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      seen.push({ live, heap: aim.info.wasmBytes });
    }
    return seen;
  });
  assert.equal(result.at(-1).heap, result[0].heap, JSON.stringify(result));
  assert.ok(result.at(-1).live <= result[0].live, JSON.stringify(result));
});
