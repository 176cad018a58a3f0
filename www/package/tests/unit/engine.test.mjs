// The life of a classifier, against a mock of the wasm module that fails on demand.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { beforeEach, describe, mock, test } from 'node:test';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { AimClassifier, cosineSimilarity, deleteCached, listCached, pipeline } from '../../dist/index.js';
import { HARDWARE, SOFTWARE, aimError, gpu, load, picture, reset, serve, sleep, soon, wasmUrl } from '../lib/mocked.mjs';
import { mockModel, mockWasm } from '../mock/lay-out.mjs';

let counts;
beforeEach(() => void (counts = reset()));

describe('load', () => {
  test('runs on the CPU without WebGPU and says why', async () => {
    const aim = await load();
    assert.equal(aim.device, 'wasm');
    assert.match(aim.info.reason, /no WebGPU/);
    assert.match(aim.info.build, /^cpu/);
    assert.equal(aim.info.worker, false);
    assert.deepEqual(aim.labels, ['a', 'b', 'c', 'd']);
    await aim.dispose();
    assert.equal(counts.frees, 1);
  });

  test('auto takes a hardware adapter, not a software one', async () => {
    gpu(HARDWARE);
    assert.equal((await load()).device, 'webgpu');
    gpu(SOFTWARE);
    const aim = await load();
    assert.equal(aim.device, 'wasm');
    assert.match(aim.info.reason, /software.*swiftshader/);
  });

  test('webgpu asked for takes a software adapter, and is an error without WebGPU', async () => {
    gpu(SOFTWARE);
    assert.equal((await load({}, { device: 'webgpu' })).device, 'webgpu');
    assert.equal(counts.loads[0].options.allowSoftware, true);
    gpu(undefined);
    await assert.rejects(load({}, { device: 'webgpu' }), aimError('unsupported', /no WebGPU.*'auto'/));
  });

  test('auto falls back when WebGPU fails, but not when the model is at fault', async () => {
    gpu(HARDWARE);
    const aim = await load({ failOn: ['webgpu'] });
    assert.equal(aim.device, 'wasm');
    assert.match(aim.info.reason, /webgpu fails here/);
    await assert.rejects(load({ failOn: ['webgpu'], failWith: 'integrity' }), aimError('integrity'));
    await assert.rejects(load({ failOn: ['webgpu'] }, { device: 'webgpu' }), aimError('unsupported'));
  });

  test('a build that is not served: the next best one, and nothing else is', async () => {
    const lacking = (...builds) => {
      const url = mockWasm();
      for (const build of builds) rmSync(new URL(build, url), { recursive: true });
      return { wasmUrl: url };
    };
    gpu(HARDWARE);
    const cpu = await load({}, lacking('webgpu'));
    assert.deepEqual([cpu.device, cpu.info.reason], ['wasm', 'the WebGPU build is not served here']);
    assert.equal((await load({}, lacking('webgpu', 'cpu-relaxed'))).info.build, 'cpu');
    await assert.rejects(load({}, { ...lacking('webgpu'), device: 'webgpu' }), aimError('not_found', /webgpu\/aim_web_bg\.wasm.*wasmUrl/));
    await assert.rejects(load({}, lacking('webgpu', 'cpu', 'cpu-relaxed')), aimError('not_found', /cpu\/aim_web_bg\.wasm/));
  });

  test('a missing file of the model is not_found', async () => {
    const { 'labels.json': _, ...files } = mockModel();
    await assert.rejects(AimClassifier.fromPretrained(files, { wasmUrl }), aimError('not_found', /labels\.json/));
  });

  test('options reach the wasm module', async () => {
    await load({}, { dtype: 'q4', probeLayers: [1, 2], revision: 'r', endpoint: 'https://e', threads: 2, warmup: false, timeouts: { stall: 9, longestWait: 8 } });
    const { options } = counts.loads[0];
    assert.deepEqual(
      { ...options, model: undefined },
      { model: undefined, dtype: 'q4', probeLayers: [1, 2], revision: 'r', endpoint: 'https://e', warmup: false, cache: false, stall: 9, longestWait: 8, allowSoftware: false, signal: undefined, onProgress: undefined, fetch: undefined, embedded: 'https://embedded.invalid/aim-tiny/' },
    );
  });

  test('a trunk that is named beside the model, in memory too', async () => {
    const trunk = mockModel({}, ['of', 'the', 'trunk']);
    for (const model of ['https://host.invalid/head/', mockModel()]) {
      const aim = await AimClassifier.fromPretrained(model, { wasmUrl, trunk });
      assert.deepEqual(aim.labels, ['of', 'the', 'trunk']);
      await aim.dispose();
    }
    for (const trunk of ['user/repo', 'user/repo@v1', 'https://host.invalid/trunk/']) {
      await assert.rejects(load({}, { trunk }));
      assert.equal(counts.loads.at(-1).options.trunk, trunk);
    }
    // What is in memory already is not kept once more.
    const kept = [];
    const [head, elsewhere] = ['https://host.invalid/head/', 'https://host.invalid/trunk/'];
    for (const [model, trunk] of [[head, undefined], [head, elsewhere], [head, mockModel()], [mockModel(), elsewhere]]) {
      await AimClassifier.fromPretrained(model, { wasmUrl, trunk }).catch(() => undefined);
      kept.push(counts.loads.at(-1).options.cache);
    }
    assert.deepEqual(kept, [true, true, false, true]);
    await assert.rejects(load({}, { trunk: 'trunk' }), aimError('option', /^trunk: 'trunk' is not valid/));
  });

  test('progress: no number above 100, the total never falls, ready once and last', async () => {
    const events = [];
    await load({}, { progress_callback: (event) => events.push(event) });
    const totals = events.filter((event) => event.status === 'progress_total').map((event) => event.progress);
    assert.deepEqual(totals, [0, 40, 40, 100]);
    assert.ok(events.every((event) => !('progress' in event) || (event.progress <= 100 && event.loaded <= event.total)));
    assert.deepEqual(events.filter((event) => event.status === 'ready'), [events.at(-1)]);
    assert.ok(events.every((event) => event.name === 'model in memory'));
    assert.deepEqual(events.map((event) => event.status).filter((status) => !status.startsWith('progress')), ['initiate', 'download', 'done', 'warmup', 'ready']);
  });

  test('progress does not start over when another device takes over', async () => {
    gpu(HARDWARE);
    const totals = [];
    const seen = [];
    await load({ failOn: ['webgpu'] }, { progress_callback: (event) => (seen.push(event.status), event.status === 'progress_total' && totals.push(event.progress)) });
    assert.deepEqual(totals, [...totals].sort((a, b) => a - b));
    assert.equal(seen.filter((status) => status === 'initiate').length, 1);
  });

  test('abort before and during', async () => {
    await assert.rejects(load({}, { signal: AbortSignal.abort() }), { name: 'AbortError' });
    assert.equal(counts.loads.length, 0);
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 20);
    // Longer than a test may take.
    await assert.rejects(load({ loadMs: 1e6 }, { signal: stop.signal }), { name: 'AbortError' });
    await assert.rejects(load({ loadMs: 1e6 }, { signal: soon() }), { name: 'TimeoutError' });
    const reason = new Error('mine');
    await assert.rejects(load({}, { signal: AbortSignal.abort(reason) }), reason);
    await assert.rejects(load({ loadMs: 1e6 }, { signal: soon(reason) }), reason);
    // And the next load works.
    await (await load()).dispose();
  });

  test('abort while the wasm file does not come, or the adapter', async () => {
    const silent = await serve(() => {});
    await assert.rejects(load({}, { wasmUrl: silent, signal: soon() }), { name: 'TimeoutError' });
    Object.defineProperty(globalThis.navigator, 'gpu', { value: { requestAdapter: () => new Promise(() => {}) }, configurable: true });
    await assert.rejects(load({}, { signal: soon() }), { name: 'TimeoutError' });
  });

  test('a progress_callback that throws costs no model', async () => {
    const said = mock.method(console, 'error', () => {});
    const aim = await load({}, { progress_callback: () => assert.fail('mine') });
    said.mock.restore();
    assert.match(said.mock.calls[0].arguments[0].message, /mine/);
    assert.equal((await aim.classify(picture)).length, 4);
  });

  test('threads whose memory is refused: the build without them', async () => {
    const able = mock.method(WebAssembly, 'validate', () => true);
    Object.defineProperty(globalThis.navigator, 'hardwareConcurrency', { value: 4, configurable: true });
    Object.assign(globalThis, { crossOriginIsolated: true, Worker: class {}, __mockRefuse: 'cpu-threads' });
    try {
      const aim = await load({}, { worker: false, wasmUrl: mockWasm() });
      assert.deepEqual([aim.info.build, aim.info.threads], ['cpu-relaxed', 1]);
      globalThis.crossOriginIsolated = false;
      globalThis.__mockRefuse = aim.info.build;
      await assert.rejects(load({}, { worker: false, wasmUrl: mockWasm() }), aimError('out_of_memory', /allocate/));
    } finally {
      able.mock.restore();
      for (const name of ['crossOriginIsolated', 'Worker', '__mockRefuse']) delete globalThis[name];
    }
  });

  test('a module that does not fit its glue: an integrity error that says to reload', async () => {
    Object.assign(globalThis, { __mockRefuse: 'webgpu', __mockError: new WebAssembly.LinkError('function import requires a callable') });
    gpu(HARDWARE);
    try {
      await assert.rejects(load({}, { wasmUrl: mockWasm() }), aimError('integrity', /two versions: reload the page/));
    } finally {
      for (const name of ['__mockRefuse', '__mockError']) delete globalThis[name];
    }
  });

  test('two at once', async () => {
    const both = await Promise.all([load({ loadMs: 5 }), load({ loadMs: 5 })]);
    const results = await Promise.all(both.map((aim) => aim.classify(picture)));
    assert.deepEqual(results[0], results[1]);
  });
});

describe('requests', () => {
  test('classify, logits, features, pipeline', async () => {
    const aim = await load();
    assert.deepEqual((await aim.classify(picture, { top_k: 2 })).map(({ label, index }) => [label, index]), [['b', 1], ['c', 2]]);
    assert.equal((await aim.classify(picture)).length, 4);
    assert.equal((await aim.classify([picture, picture])).length, 2);
    assert.ok((await aim.logits(picture)) instanceof Float32Array);
    assert.deepEqual((await aim.features(picture)).data, new Float32Array(6).fill(3));
    const two = await aim.features(picture, { layers: [0, 2] });
    assert.deepEqual(two.dims, [2, 3, 2]);
    assert.deepEqual([...two.data], [0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2]);
    await assert.rejects(aim.features(picture, { layers: [4] }), aimError('option', /0 to 3/));

    const run = await pipeline('image-classification', mockModel(), { wasmUrl });
    assert.deepEqual(Object.keys((await run(picture, { top_k: 1 }))[0]), ['label', 'score']);
    assert.equal((await run(picture, { top_k: null })).length, 4);
    assert.equal((await run(picture, null)).length, 4);
    assert.equal((await run([picture]))[0].length, 4);
    await run.dispose();
    await assert.rejects(run(picture), aimError('disposed'));
    await assert.rejects(pipeline('text-generation'), aimError('option', /image-classification/));
  });

  test('labels that are wanted, a part of the picture, one vector', async () => {
    const aim = await load();
    const [best, second, ...rest] = (await aim.classify(picture)).map(({ label }) => label);
    assert.deepEqual((await aim.classify(picture, { denylist: [best], top_k: 1 })).map(({ label }) => label), [second]);
    assert.deepEqual((await aim.classify(picture, { allowlist: rest })).map(({ label }) => label), rest);
    assert.deepEqual((await aim.classifyForVideo(picture, 0, { allowlist: [second] })).map(({ label }) => label), [second]);
    const wide = { data: Uint8Array.of(1, 1, 1, 1, 2, 2, 2, 2), width: 2, height: 1 };
    for (const ask of [aim.classify, aim.logits, aim.features, aim.embed]) {
      await ask.call(aim, wide, { regionOfInterest: { left: 0.5 } });
      assert.deepEqual(counts.seen, { rgba: [2, 2, 2, 2], width: 1, height: 1 });
    }
    await aim.classifyForVideo(wide, 0, { rotationDegrees: 90 });
    assert.deepEqual([counts.seen.width, counts.seen.height], [1, 2]);
    const [vector, other] = await aim.embed([picture, picture], { layers: [0, 2] });
    assert.deepEqual([vector, other], [1, 1.125].map((value) => new Float32Array(2).fill(value)));
    assert.equal(cosineSimilarity(vector, other), 1);
    assert.equal(cosineSimilarity(Float32Array.of(1, 0), Float32Array.of(0, 2)), 0);
    assert.ok(Math.abs(cosineSimilarity(Float32Array.of(1, 2, 3), Float32Array.of(-2, -4, -6)) + 1) < 1e-12);
    assert.throws(() => cosineSimilarity(vector, Float32Array.of(1)), aimError('option', /2 and 1/));
  });

  test('an array runs in batches, each picture with its own result; a broken one is an error of all', async () => {
    const aim = await load();
    const pictures = [10, 20, 30, 40, 50, 60].map((red) => ({ data: Uint8Array.of(red, 0, 0, 255), width: 1, height: 1 }));
    const logits = await aim.logits(pictures);
    assert.deepEqual(logits.map(([red]) => Math.round(red * 255)), [10, 20, 30, 40, 50, 60]);
    assert.deepEqual(counts.batches, [4, 2]);
    assert.equal((await aim.classify(pictures, { top_k: 1 })).length, 6);
    const features = await aim.features(pictures.slice(0, 2), { layers: [0, 2] });
    assert.deepEqual(features.map(({ dims, data }) => [dims, data[0], data[6]]), [[[2, 3, 2], 0, 2], [[2, 3, 2], 0.125, 2.125]]);
    const [first, second] = await aim.features(pictures.slice(0, 2));
    structuredClone(first.data, { transfer: [first.data.buffer] });
    assert.equal(second.data.length, 6);
    assert.deepEqual(await aim.classify([]), []);
    await assert.rejects(aim.classify([picture, { ...picture, width: 2 }, picture]), aimError('image', /needs 8 bytes/));
    await assert.rejects(aim.classify([picture, new Blob(['x'])]), aimError('image', /no known format/));
    const nulls = await aim.classify([picture, new Blob(['x']), { ...picture, width: 2 }, picture], { top_k: 1, onerror: 'null' });
    assert.deepEqual(nulls.map((labels) => labels?.length), [1, undefined, undefined, 1]);
    await assert.rejects(aim.classify([picture], { onerror: 'skip' }), aimError('option', /'throw' or 'null'/));
    await assert.rejects(aim.classify(new Blob(['x']), { onerror: 'null' }), aimError('image', /no known format/));
    assert.equal((await aim.classify(picture)).length, 4);
  });

  test('pipeline of features', async () => {
    const run = await pipeline('image-feature-extraction', mockModel(), { wasmUrl });
    const { type, dims, data, size } = await run([picture, picture]);
    assert.deepEqual([type, dims, data, size], ['float32', [2, 3, 2], Float32Array.from({ length: 12 }, (_, i) => (i < 6 ? 3 : 3.125)), 12]);
    assert.deepEqual((await run(picture, { pool: true })).dims, [1, 2]);
    assert.deepEqual((await run(picture, { rotationDegrees: 90 })).dims, [1, 3, 2]);
    assert.deepEqual((await run([])).dims, [0]);
    // Of several its dims would say nothing.
    await assert.rejects(run(picture, { layers: [1, 2] }), aimError('option', /no 'layers'/));
    await run.dispose();
  });

  test('the caller keeps its pixels', async () => {
    const aim = await load();
    await aim.classify(picture);
    assert.equal(picture.data.byteLength, 4);
  });

  test('bad pictures are typed errors and the classifier goes on', async () => {
    const aim = await load();
    const data = new Uint8Array(4);
    for (const [input, text] of [
      [{ data, width: 0, height: 0 }, /0 x 0/],
      [{ data, width: 2, height: 2 }, /needs 16 bytes/],
      [{ data, width: 20000, height: 20000 }, /too large/],
      [{ data, width: 1.5, height: 1 }, /whole numbers/],
      [{ data: [1, 2, 3, 4], width: 1, height: 1 }, /no Uint8Array/],
      [null, /null is not a picture/],
      [42, /number 42 is not a picture/],
      [{}, /is not a picture/],
    ]) {
      await assert.rejects(aim.classify(input), aimError('image', text));
    }
    await assert.rejects(aim.classify(new Blob(['x'])), aimError('image', /no known format/));
    assert.equal((await aim.classify(new Blob(['GIF89a', Uint8Array.of(1, 0, 1, 0)]))).length, 4);
    assert.deepEqual(counts.seen, { rgba: [10, 20, 30, 255], width: 1, height: 1 });
    // A decoder that stopped is begun anew; the model is not concerned.
    await assert.rejects(aim.classify(new Blob(['GIF88a', Uint8Array.of(1, 0, 1, 0)])), aimError('image', /unreachable/));
    assert.equal((await aim.classify(new Blob(['GIF89a', Uint8Array.of(1, 0, 1, 0)]))).length, 4);
    await assert.rejects(aim.classify(new Blob(['GIF87a', Uint8Array.of(1, 0, 1, 0)])), aimError('image', /this GIF is broken/));
    // An SVG whose type nobody says; and a page with one in it.
    for (const head of ['<svg xmlns="http://www.w3.org/2000/svg"/>', '\ufeff<?xml version="1.0"?>\n<!-- by hand -->\n<svg/>', '<!DOCTYPE svg PUBLIC ""><svg/>']) {
      const bytes = new TextEncoder().encode(head);
      for (const input of [bytes, bytes.buffer, new Blob([bytes]), new Response(bytes), new Blob([bytes]).stream()]) await assert.rejects(aim.classify(input), aimError('unsupported', /an SVG can be drawn in a page only/));
    }
    await assert.rejects(aim.classify(new Blob(['<!doctype html><svg/>'])), aimError('image', /HTML page/));
    await assert.rejects(aim.classify(picture, { top_k: 0 }), aimError('option', /top_k: 0/));
    assert.equal((await aim.classify(picture)).length, 4);
  });

  test('an aborted request rejects at once, the others do not notice', async () => {
    const aim = await load({ ms: 50 });
    const stop = new AbortController();
    const first = aim.classify(picture);
    const second = aim.classify(picture, { signal: stop.signal });
    const third = aim.classify(picture);
    setTimeout(() => stop.abort(), 5);
    const order = [];
    first.then(() => order.push('first'));
    await assert.rejects(second, { name: 'AbortError' });
    assert.deepEqual(order, []);
    assert.equal((await first).length, 4);
    assert.equal((await third).length, 4);
    await assert.rejects(aim.classify(picture, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  });

  test('a picture that does not arrive keeps nobody waiting, and ends as a network error', async () => {
    const url = await serve((_request, response) => response.writeHead(200, { 'content-length': 100 }).write('x'));
    const aim = await load({}, { timeouts: { stall: 0.3 } });
    const order = [];
    const first = assert.rejects(aim.classify(url), aimError('network', /nothing for 0\.3 seconds/)).then(() => order.push('first'));
    await aim.classify(picture).then(() => order.push('second'));
    await assert.rejects(aim.classify(url, { signal: soon() }), { name: 'TimeoutError' });
    await first;
    assert.deepEqual(order, ['second', 'first']);
    const last = assert.rejects(aim.classify(url), aimError('disposed'));
    await sleep(20);
    await aim.dispose();
    await last;
  });

  test('a stream is read no further once its picture is given up, or too large', async () => {
    const aim = await load();
    const endless = (size) => {
      const stream = new ReadableStream({ pull: async (out) => (await sleep(1), (stream.pulls += 1), out.enqueue(new Uint8Array(size))), cancel: () => (stream.isOver = true) });
      return Object.assign(stream, { pulls: 0, isOver: false });
    };
    const [slow, answered, large, last] = [10, 10, 150e6, 10].map(endless);
    await assert.rejects(aim.classify(slow, { signal: soon() }), { name: 'TimeoutError' });
    await assert.rejects(aim.classify(new Response(answered), { signal: soon() }), { name: 'TimeoutError' });
    await assert.rejects(aim.classify(large), aimError('image'));
    const ended = assert.rejects(aim.classify(last), aimError('disposed'));
    await sleep(20);
    await aim.dispose();
    await ended;
    await sleep(10);
    for (const stream of [slow, answered, large, last]) assert.ok(stream.isOver && stream.pulls > 0);
  });

  test('a blob: URL is read at the call', async () => {
    const aim = await load();
    const url = URL.createObjectURL(new Blob(['GIF89a', Uint8Array.of(1, 0, 1, 0)]));
    const called = aim.classify([url, new URL(url)]);
    URL.revokeObjectURL(url);
    assert.equal((await called).length, 2);
    await assert.rejects(aim.classify(url), aimError('network', /blob:.* could not be fetched/));
  });

  test('an element whose picture does not come can be given up', async () => {
    const element = { [Symbol.toStringTag]: 'HTMLImageElement', decode: () => new Promise(() => {}) };
    const aim = await load();
    await assert.rejects(aim.classify(element, { signal: soon() }), { name: 'TimeoutError' });
    await assert.rejects(aim.classifyForVideo(element, 0, { signal: soon() }), { name: 'TimeoutError' });
    assert.equal((await aim.classify(picture)).length, 4);
  });

  test('an answer is not kept once it is given', async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc');
    gpu(HARDWARE);
    const aim = await load();
    const answers = [];
    for (let i = 0; i < 10; i++) answers.push(new WeakRef(await aim.logits(picture)));
    await sleep(10);
    gc();
    const kept = answers.filter((answer) => answer.deref()).length;
    assert.ok(kept <= 1, `${kept} answers are kept`);
    assert.equal(aim.device, 'webgpu');
  });

  test('video: at most one in flight, the newest wins', async () => {
    const aim = await load({ ms: 20 });
    const frames = await Promise.all([1, 2, 3, 4].map((timestamp) => aim.classifyForVideo(picture, timestamp)));
    assert.deepEqual(frames.map((frame) => frame && frame.timestamp), [1, null, null, 4]);
    assert.equal(frames[0][0].label, 'b');
    await assert.rejects(aim.classifyForVideo(null, 5), aimError('image'));
    assert.equal((await aim.classifyForVideo(picture, 6)).timestamp, 6);
  });

  test('use after dispose', async () => {
    const aim = await load({ ms: 20 });
    const waiting = [aim.classify(picture), aim.classify(picture)];
    await new Promise((resolve) => setTimeout(resolve, 5));
    const results = Promise.allSettled(waiting);
    await aim.dispose();
    await aim.dispose();
    const [, second] = await results;
    assert.equal(second.reason?.code, 'disposed');
    await assert.rejects(aim.classify(picture), aimError('disposed', /fromPretrained/));
    await assert.rejects(aim.classifyForVideo(picture), aimError('disposed'));
  });
});

describe('a device that goes', () => {
  test('in a request: rebuilt once, the request ends in its right result', async () => {
    gpu(HARDWARE);
    const aim = await load({ loseOn: { webgpu: 2 } });
    const right = await aim.classify(picture);
    assert.deepEqual(await aim.classify(picture), right);
    assert.equal(aim.device, 'webgpu');
    assert.match(aim.info.reason, /rebuilt/);
    // The rebuilt device goes on its second call too: now the CPU takes over.
    assert.deepEqual(await aim.classify(picture), right);
    assert.equal(aim.device, 'wasm');
    assert.match(aim.info.reason, /the GPU was lost/);
    assert.deepEqual(counts.loads.map(({ build }) => build.slice(0, 3)), ['web', 'web', 'cpu']);
    assert.equal(counts.frees, 2);
  });

  test('between requests', async () => {
    gpu(HARDWARE);
    const aim = await load();
    counts.destroy();
    assert.equal((await aim.classify(picture)).length, 4);
    assert.equal(counts.loads.length, 2);
  });

  test('nothing can take over: device_lost, not a hang', async () => {
    gpu(HARDWARE);
    const aim = await load({ loseOn: { webgpu: 1 }, failAfter: 1 });
    await assert.rejects(aim.classify(picture), aimError('device_lost', /nothing could take over/));
    await assert.rejects(aim.classify(picture), aimError('device_lost'));
    assert.equal(counts.loads.length, 3);
  });
});

describe('a trap', () => {
  test('where the GPU is: as if it were lost', async () => {
    for (const panicAs of ['trap', 'error']) {
      counts.loads.length = 0;
      gpu(HARDWARE);
      const aim = await load({ panicAs, panicOn: { webgpu: 1 } });
      assert.equal((await aim.classify(picture)).length, 4);
      assert.equal(aim.device, 'wasm');
      assert.deepEqual(counts.loads.map(({ build }) => build.slice(0, 3)), ['web', 'web', 'cpu']);
    }
  });

  test('ends the classifier; the next one gets a fresh instance', async () => {
    for (const panicAs of ['trap', 'error']) {
      const aim = await load({ panicAs, panicOn: { cpu: 1, 'cpu-relaxed': 1 } });
      await assert.rejects(aim.classify(picture), aimError('device_lost', /internal error.*fromPretrained/));
      await assert.rejects(aim.classify(picture), aimError('device_lost'));
      const next = await load();
      assert.equal((await next.classify(picture)).length, 4);
    }
  });
});

test('a trap in a heap that can\'t grow is out_of_memory', async () => {
  globalThis.__mockHeap = { initial: 1, maximum: 1 };
  try {
    const aim = await load({ panicOn: { cpu: 1, 'cpu-relaxed': 1 } }, { wasmUrl: mockWasm() });
    await assert.rejects(aim.classify(picture), aimError('out_of_memory', /for want of memory.*fromPretrained/));
  } finally {
    delete globalThis.__mockHeap;
  }
});

test('a trap that no promise hears of, in a program that outlives its uncaught errors', async () => {
  // A process of its own: the test runner takes uncaught errors for failures.
  const script = `
    import { AimClassifier } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    import { mockModel, mockWasm } from ${JSON.stringify(new URL('../mock/lay-out.mjs', import.meta.url).href)};
    const heard = [];
    process.on('uncaughtException', (error) => heard.push(error.message));
    const aim = await AimClassifier.fromPretrained(mockModel({ strayOn: { cpu: 1, 'cpu-relaxed': 1 } }), { wasmUrl: mockWasm() });
    const ended = await aim.classify({ data: new Uint8Array(4), width: 1, height: 1 }).catch((error) => error.code);
    console.log(heard.join(), ended);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  assert.equal(stdout, 'unreachable device_lost\n');
});

test('the cache is listed and emptied without a wasm module, a worker or a model', async () => {
  assert.deepEqual(await listCached(), []);
  const kept = new Map(
    [['user%2Frepo/abc/0', 10], ['user%2Frepo/abc/1', 5], ['https%3A%2F%2Fhost%2Ffolder%2F/def/0', 7]].map(([path, size]) => [`https://aim-web.invalid/${path}`, new Response('', { headers: { 'x-aim-size': size } })]),
  );
  kept.set('https://page.example/its/own', new Response(''));
  const cache = {
    keys: async () => [...kept.keys()].map((url) => ({ url })),
    match: async ({ url }) => kept.get(url),
    delete: async ({ url }) => kept.delete(url),
  };
  globalThis.caches = { open: async (name) => (assert.equal(name, 'aim-web'), cache) };
  try {
    const folder = { model: 'https://host/folder/', bytes: 7 };
    assert.deepEqual(await listCached(), [folder, { model: 'user/repo', bytes: 15 }]);
    await deleteCached('user/repo');
    assert.deepEqual(await listCached(), [folder]);
    await deleteCached();
    assert.deepEqual([...kept.keys()], ['https://page.example/its/own']);
    cache.keys = () => Promise.reject(new Error('the disk is broken'));
    await assert.rejects(listCached(), aimError('unsupported', /disk is broken/));
    // As in workerd, whose cache can't be listed.
    delete cache.keys;
    assert.deepEqual(await listCached(), []);
  } finally {
    delete globalThis.caches;
  }
});
