// What stops, hangs or goes away around a classifier: every wait ends, and nothing is left behind.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, mock, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { AimClassifier } from '../../dist/index.js';
import { HARDWARE, aimError, gpu, load, picture, reset, serve, sleep, soon, wasmUrl } from '../lib/mocked.mjs';
import { mockModel, mockWasm } from '../mock/lay-out.mjs';

let counts;
beforeEach(() => void (counts = reset()));

describe('the wasm file', () => {
  for (const [when, answer] of [
    ['never answers', () => {}],
    ['answers and sends nothing', (_, response) => response.writeHead(200, { 'content-type': 'application/wasm' }).flushHeaders()],
    ['stops in the middle', (_, response) => response.writeHead(200, { 'content-type': 'application/wasm', 'content-length': 100 }).write('\0asm')],
    ['stops in the middle of an unknown type', (_, response) => response.writeHead(200, { 'content-length': 100 }).write('\0asm')],
  ]) {
    test(`a server that ${when}: a network error after the time-out`, async () => {
      const url = await serve(answer);
      await assert.rejects(load({}, { wasmUrl: url, timeouts: { stall: 0.2 } }), aimError('network', /wasm.*nothing for 0\.2 seconds/));
      await (await load()).dispose();
    });
  }

  test('slower than the time-out as a whole, but never silent: it arrives', async () => {
    const module = Buffer.concat([Buffer.from('\0asm\x01\0\0\0', 'latin1'), Buffer.from([0, 6, 1, 120, 1, 2, 3, 4])]);
    const url = await serve(async (_, response) => {
      response.writeHead(200, { 'content-type': 'application/wasm', 'content-length': module.length });
      for (const byte of module) {
        response.write(Buffer.of(byte));
        await sleep(50);
      }
      response.end();
    });
    // Node imports nothing by HTTP, so the load ends with the glue: after the wasm file.
    await assert.rejects(load({}, { wasmUrl: url, timeouts: { stall: 0.4 } }), aimError('network', /aim_web\.js could not be loaded as a module/));
  });

  test('an abort ends the download, but not that of another load', async () => {
    let requests = 0;
    let closed;
    const gone = new Promise((resolve) => (closed = resolve));
    const url = await serve((_, response) => {
      requests += 1;
      response.on('close', () => closed());
      response.writeHead(200, { 'content-type': 'application/wasm', 'content-length': 100 }).write('\0asm');
    });
    const [first, second] = [new AbortController(), new AbortController()];
    const loads = [first, second].map(({ signal }) => load({}, { wasmUrl: url, signal }));
    while (requests === 0) await sleep(5);
    first.abort();
    await assert.rejects(loads[0], { name: 'AbortError' });
    assert.equal(await Promise.race([gone.then(() => 'closed'), sleep(100)]), undefined);
    second.abort();
    await assert.rejects(loads[1], { name: 'AbortError' });
    await gone;
    assert.equal(requests, 1);
  });

  test('of a caller: used for its own build, another is fetched', async () => {
    const module = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    // (import "wbg" "requestAdapter" (func))
    const ofGpu = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 2, 22, 1, 3, 119, 98, 103, 14, ...Buffer.from('requestAdapter'), 0, 0));
    const used = async (wasmModule, device) => {
      counts.modules = [];
      await load({}, { wasmModule, device, wasmUrl: mockWasm() });
      return counts.modules.map(([build, used]) => [build.slice(0, 3), used === wasmModule]);
    };
    gpu(HARDWARE);
    assert.deepEqual(await used(module, 'auto'), [['web', false]]);
    assert.deepEqual(await used(module, 'wasm'), [['cpu', true]]);
    assert.deepEqual(await used(ofGpu, 'wasm'), [['cpu', false]]);
    assert.deepEqual(await used(ofGpu, 'auto'), [['web', true]]);
  });
});

test('a browser that never says which adapter it has: the CPU, with the reason', async () => {
  Object.defineProperty(globalThis.navigator, 'gpu', { value: { requestAdapter: () => new Promise(() => {}) }, configurable: true });
  mock.timers.enable({ apis: ['setTimeout'] });
  let loading;
  try {
    loading = load();
    await Promise.resolve();
    mock.timers.tick(5000);
  } finally {
    mock.timers.reset();
  }
  const aim = await loading;
  assert.equal(aim.device, 'wasm');
  assert.match(aim.info.reason, /no adapter within 5 seconds/);
});

describe('a worker that may not start', () => {
  class Silent extends EventTarget {
    postMessage() {}
    terminate() {}
  }
  const KINDS = {
    'is refused': class {
      constructor() {
        throw new DOMException('of another origin', 'SecurityError');
      }
    },
    'is blocked': class extends Silent {
      constructor() {
        super();
        setTimeout(() => this.dispatchEvent(Object.assign(new Event('error', { cancelable: true }), { message: '' })));
      }
    },
    'does not come': Silent,
  };
  for (const [what, kind] of Object.entries(KINDS)) {
    test(`one that ${what}: the page's own thread, which aim.info says`, async () => {
      globalThis.Worker = kind;
      try {
        const options = { timeouts: { stall: 0.2 } };
        const aim = await load({}, options);
        assert.equal(aim.info.worker, false);
        assert.match(aim.info.reason, /no WebGPU.*in the page's own thread, because .*(could not be started|did not start)/);
        assert.equal((await aim.classify(picture)).length, 4);
        await assert.rejects(load({}, { ...options, worker: true }), (error) => /could not be started|did not start/.test(error.message));
        await assert.rejects(load({}, { signal: AbortSignal.abort() }), { name: 'AbortError' });
        if (kind === Silent) await assert.rejects(load({}, { signal: soon() }), { name: 'TimeoutError' });
      } finally {
        delete globalThis.Worker;
      }
    });
  }
});

describe('dispose', () => {
  test('what runs, what waits and what is being fetched ends as disposed, at once', async () => {
    const url = await serve(() => {});
    const aim = await load({ ms: 1e6 });
    const element = { [Symbol.toStringTag]: 'HTMLImageElement', decode: () => new Promise(() => {}) };
    const calls = [aim.classify(picture), aim.logits(picture), aim.features(picture), aim.classify(url), aim.classify(element), aim.classifyForVideo(picture), aim.classifyForVideo(picture), aim.classify([picture, picture])];
    const ends = Promise.all(calls.map((call) => assert.rejects(call, aimError('disposed'))));
    await sleep(20);
    await Promise.all([aim.dispose(), aim.dispose()]);
    await ends;
    assert.equal(counts.frees, 1);
  });

  test('does not wait for a device that is being built again', async () => {
    gpu(HARDWARE);
    const aim = await load({ stallAfter: 1 });
    counts.destroy();
    const call = assert.rejects(aim.classify(picture), aimError('disposed'));
    while (counts.loads.length < 2) await sleep(5);
    await aim.dispose();
    await call;
    assert.equal(counts.frees, 1);
  });

  test('a classifier that nobody holds is let go', async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc');
    await load({ id: 'forgotten' });
    // Node takes its time with what was collected.
    for (let i = 0; i < 50 && counts.freed?.id !== 'forgotten'; i++) {
      gc();
      await sleep(100);
    }
    assert.equal(counts.freed?.id, 'forgotten');
  });
});

test('a frame of a video is given up while it waits', async () => {
  const aim = await load({ ms: 1e6 });
  const first = aim.classifyForVideo(picture, 1);
  first.catch(() => {});
  await assert.rejects(aim.classifyForVideo(picture, 2, { signal: soon() }), { name: 'TimeoutError' });
  const third = aim.classifyForVideo(picture, 3);
  const fourth = aim.classifyForVideo(picture, 4);
  assert.equal(await third, null);
  await aim.dispose();
  await assert.rejects(fourth, aimError('disposed'));
});

test('an SVG that does not come: a network error after the time-out; an abort ends its download', async () => {
  let closed;
  const url = await serve((_, response) => {
    response.on('close', () => closed?.());
    response.writeHead(200, { 'content-type': 'image/svg+xml' }).write('<svg');
  });
  const impatient = await load({}, { timeouts: { stall: 0.3 } });
  await assert.rejects(impatient.classify(`${url}flag.svg`), aimError('network', /nothing for 0\.3 seconds/));
  const aim = await load();
  const gone = new Promise((resolve) => (closed = resolve));
  await assert.rejects(aim.classify(new URL('flag.svg', url), { signal: soon() }), { name: 'TimeoutError' });
  await gone;
});

test('a part of the package that does not come: a network error of whatever needs it', async () => {
  // What is loaded from the start, without what is fetched later.
  const folder = mkdtempSync(join(tmpdir(), 'aim-web-part-'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const copy = (file) => {
    const text = readFileSync(new URL(`../../dist/${file}`, import.meta.url), 'utf8');
    writeFileSync(join(folder, file), text);
    for (const [, other] of text.matchAll(/\bfrom\s*"\.\/([\w-]+\.js)"/g)) copy(other);
  };
  copy('index.js');
  try {
    const { AimClassifier } = await import(pathToFileURL(join(folder, 'index.js')).href);
    const aim = await AimClassifier.fromPretrained(mockModel(), { wasmUrl });
    const svg = new Blob(['<svg/>'], { type: 'image/svg+xml' });
    for (const call of [aim.measure(), aim.teach().add('a', picture), aim.classify(svg), AimClassifier.fromPretrained(new Blob(['a lesson']), { wasmUrl })]) {
      await assert.rejects(call, ({ name, code, message }) => name === 'AimError' && code === 'network' && /part of the package/.test(message));
    }
    await aim.classify(picture);
    await aim.dispose();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a load that is given up leaves the instance that runs what it is: after a trap nobody gets it', async () => {
  const url = mockWasm();
  const first = await load({ panicOn: { cpu: 1, 'cpu-relaxed': 1 } }, { wasmUrl: url });
  const stop = new AbortController();
  const given = load({}, { wasmUrl: url, signal: stop.signal });
  stop.abort();
  await assert.rejects(given, { name: 'AbortError' });
  await load({}, { wasmUrl: url });
  await assert.rejects(first.classify(picture), aimError('device_lost'));
  const last = await load({}, { wasmUrl: url });
  assert.equal((await last.classify(picture)).length, 4);
});

test('100 loads, calls and disposals leave no timer and no listener', async () => {
  gpu(HARDWARE);
  const stop = new AbortController();
  const { signal } = stop;
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const added = mock.method(process, 'on');
  for (let i = 0; i < 100; i++) {
    const aim = await load({}, { signal });
    const calls = [aim.classify(picture, { signal }), aim.logits([picture, picture], { signal }), aim.classifyForVideo(picture, i, { signal }), aim.classifyForVideo(picture, i, { signal })];
    if (i % 2 === 0) await Promise.allSettled(calls);
    await aim.dispose();
    await Promise.allSettled(calls);
  }
  await sleep(0);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  assert.equal(timers(), before);
  assert.equal(added.mock.callCount(), 0);
  added.mock.restore();
});
