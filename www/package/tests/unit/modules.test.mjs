// The rooms of the house one by one, without a wasm module.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { rmSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { shorten } from '../../scripts/shorten.mjs';
import { source } from '../lib/source.mjs';

const { AimError, fromWire, toError, toWire } = await source('errors');
const { cacheName, loadOptions, classifyOptions, featureOptions, viewOptions } = await source('options');
const { Progress } = await source('progress');
const { Turns } = await source('turns');
const { Rpc } = await source('rpc');
const { isCut, isTurned, sizeOf } = await source('frames/header');
const { dataUrl } = await source('data-url');
const { answer } = await source('local-answer');
const { cpuBuild, software } = await source('device');
const { fetchBlob } = await source('frames/fetch-blob');
const { pixels } = await source('frames/pixels');
const { seen } = await source('frames/view');

after(() => rmSync(fileURLToPath(new URL(`../.build/${process.pid}`, import.meta.url)), { recursive: true, force: true }));

const tick = () => new Promise((resolve) => setTimeout(resolve));

describe('options', () => {
  const wrong = (run, text) => assert.throws(run, (error) => error instanceof AimError && error.code === 'option' && text.test(error.message) || assert.fail(`${error.code}: ${error.message}`));

  test('defaults', () => {
    const { engine, worker, signal } = loadOptions(undefined, undefined);
    assert.deepEqual(engine.model, { kind: 'embedded', name: 'aim-tiny' });
    assert.deepEqual([engine.device, engine.dtype, engine.cache, engine.warmup, worker, signal], ['auto', 'auto', true, true, undefined, undefined]);
  });

  test('a value that is not allowed: the message names what is', () => {
    wrong(() => loadOptions(undefined, { device: 'gpu' }), /device: 'gpu' is not valid: it must be 'auto', 'webgpu' or 'wasm'/);
    wrong(() => loadOptions(undefined, { dtype: 'int3' }), /'auto', 'fp32', 'fp16', 'q8' or 'q4'/);
    wrong(() => loadOptions(undefined, { probeLayers: 'first' }), /'best', 'last' or a list/);
    wrong(() => loadOptions(undefined, { probeLayers: [-1] }), /block numbers/);
    wrong(() => loadOptions(undefined, { probeLayers: [] }), /block numbers/);
    wrong(() => loadOptions(undefined, { threads: 0 }), /threads: 0/);
    wrong(() => loadOptions(undefined, { cache: 'yes' }), /true or false/);
    wrong(() => loadOptions(undefined, { worker: 1 }), /worker: 1/);
    wrong(() => loadOptions(undefined, { signal: {} }), /AbortSignal/);
    wrong(() => loadOptions(undefined, { progress_callback: 1 }), /a function/);
    wrong(() => loadOptions(undefined, { token: '' }), /token/);
    wrong(() => loadOptions(undefined, { wasmUrl: 5 }), /wasmUrl/);
    wrong(() => loadOptions(undefined, 'fast'), /options: 'fast'/);
    wrong(() => classifyOptions({ top_k: 1.5 }), /top_k: 1.5/);
    wrong(() => classifyOptions({ top_k: '5' }), /top_k: '5'/);
    wrong(() => featureOptions({ layers: [12] }, 12), /0 to 11/);
  });

  test('an option that is none: the nearest is named, and what is of transformers.js is told as such', () => {
    wrong(() => classifyOptions({ topK: 3 }), /no 'topK'.*'top_k'/);
    wrong(() => classifyOptions({ scoreTreshold: 3 }), /'scoreThreshold'/);
    wrong(() => classifyOptions({ deny_list: [] }), /'denylist'/);
    wrong(() => featureOptions({ layer: [3] }, 12), /'layers'/);
    wrong(() => viewOptions({ top_k: 3 }), /no 'top_k'/);
    wrong(() => loadOptions(undefined, { wasmURL: '/x/' }), /'wasmUrl'/);
    wrong(() => loadOptions(undefined, { progressCallback() {} }), /'progress_callback'/);
    wrong(() => loadOptions(undefined, { probe_layers: 'best' }), /'probeLayers'/);
    wrong(() => loadOptions(undefined, { timeouts: { stalls: 1 } }), /'stall'/);
    wrong(() => loadOptions(undefined, { session_options: {} }), /'session_options' of transformers\.js means nothing here/);
    loadOptions(undefined, { session_options: undefined });
  });

  test('names of transformers.js that mean something here are taken, with a note', (context) => {
    const said = context.mock.method(console, 'warn', () => {});
    for (const [name, dtype] of Object.entries({ int8: 'q8', uint8: 'q8', q4f16: 'q4', bnb4: 'q4' })) {
      assert.equal(loadOptions(undefined, { dtype: name }).engine.dtype, dtype);
      assert.match(said.mock.calls.at(-1).arguments[0], new RegExp(`'${name}'.*'${dtype}'`));
    }
    assert.equal(classifyOptions({ topk: 3 }).topK, 3);
    assert.match(said.mock.calls.at(-1).arguments[0], /'top_k'/);
    assert.equal(said.mock.callCount(), 5);
  });

  test('what of a picture is looked at, and which labels', () => {
    assert.equal(viewOptions(undefined).view, undefined);
    assert.equal(viewOptions({ rotationDegrees: 360 }).view, undefined);
    assert.deepEqual(viewOptions({ rotationDegrees: -90 }).view, { left: 0, top: 0, right: 1, bottom: 1, quarters: 3 });
    assert.deepEqual(viewOptions({ regionOfInterest: { left: 0.25, right: 0.5 } }).view, { left: 0.25, top: 0, right: 0.5, bottom: 1, quarters: 0 });
    wrong(() => viewOptions({ rotationDegrees: 45 }), /multiple of 90/);
    wrong(() => viewOptions({ rotationDegrees: '90' }), /rotationDegrees/);
    wrong(() => viewOptions({ regionOfInterest: { left: 0.5, right: 0.5 } }), /left of its right/);
    wrong(() => viewOptions({ regionOfInterest: { left: -1 } }), /regionOfInterest\.left/);
    wrong(() => viewOptions({ regionOfInterest: { x: 0 } }), /no 'x'/);
    const kept = (options) => ['a', 'b', 'c'].filter((label, i) => classifyOptions(options).keep({ label, score: [0.6, 0.3, 0.1][i] })).join('');
    assert.equal(classifyOptions({}).keep, undefined);
    assert.equal(kept({ scoreThreshold: 0.3 }), 'ab');
    assert.equal(kept({ allowlist: ['c', 'b', 'x'] }), 'bc');
    assert.equal(kept({ denylist: ['a'] }), 'bc');
    assert.equal(kept({ denylist: ['a'], scoreThreshold: 0.2, allowlist: ['a', 'b', 'c'] }), 'b');
    wrong(() => classifyOptions({ allowlist: 'a' }), /allowlist/);
    wrong(() => classifyOptions({ scoreThreshold: 2 }), /scoreThreshold: 2/);
  });

  test('models', () => {
    const model = (value) => loadOptions(value, undefined).engine.model;
    assert.deepEqual(model('apple/aim-600M'), { kind: 'name', name: 'apple/aim-600M' });
    assert.deepEqual(model('https://host/folder'), { kind: 'name', name: 'https://host/folder/' });
    assert.deepEqual(model(new URL('https://host/a/')), { kind: 'name', name: 'https://host/a/' });
    assert.equal(model({ 'config.json': '{}' }).kind, 'files');
    for (const name of ['aim', '', 'a/b/c', 'a b/c', 7, [], {}]) wrong(() => model(name), /hub name such as/);
    wrong(() => model('./here/'), /not a URL/);
    wrong(() => model({ 'config.json': 3 }), /config\.json/);
  });

  test('the cache is asked by the name of the load', () => {
    globalThis.location = { href: 'https://page.example/dir/index.html' };
    try {
      for (const folder of ['./small/', './small']) assert.equal(cacheName(folder), 'https://page.example/dir/small');
      assert.equal(cacheName(new URL('https://host/folder')), 'https://host/folder');
      assert.equal(cacheName('https://host/'), 'https://host');
      assert.equal(cacheName('apple/aim-600M'), 'apple/aim-600M');
      assert.equal(cacheName(undefined), undefined);
      for (const name of ['', 'small', { 'config.json': '{}' }]) wrong(() => cacheName(name), /hub name such as/);
    } finally {
      delete globalThis.location;
    }
  });
});

describe('progress', () => {
  test('counts beyond the total, falling counts and repeated stages are set right', () => {
    const events = [];
    const progress = new Progress('m', (event) => events.push(event));
    for (const [loaded, total] of [[10, 100], [50, 100], [20, 100], [300, 100], [1, 0]]) progress.take({ status: 'progress_total', loaded, total });
    for (let i = 0; i < 2; i++) for (const status of ['initiate', 'download', 'done', 'ready', 'warmup', 'nonsense']) progress.take({ status, file: 'f' });
    progress.ready();
    progress.ready();
    assert.deepEqual(events.slice(0, 5).map((event) => event.progress), [10, 50, 50, 100, 100]);
    assert.deepEqual(events.slice(5).map((event) => event.status), ['initiate', 'download', 'done', 'warmup', 'ready']);
    assert.ok(events.every((event) => event.name === 'm'));
  });

  test('each file has its own count', () => {
    const events = [];
    const progress = new Progress('m', (event) => events.push(event));
    progress.take({ status: 'progress', file: 'a', loaded: 9, total: 10 });
    progress.take({ status: 'progress', file: 'b', loaded: 1, total: 10 });
    assert.deepEqual(events.map(({ file, progress: percent }) => [file, percent]), [['a', 90], ['b', 10]]);
  });
});

describe('turns', () => {
  test('one after the other; an aborted one is never begun', async () => {
    const turns = new Turns();
    const log = [];
    const stop = new AbortController();
    const job = (name) => async () => {
      log.push(`+${name}`);
      await tick();
      log.push(`-${name}`);
      return name;
    };
    const first = turns.take(undefined, job('a'));
    const second = turns.take(stop.signal, job('b'));
    const third = turns.take(undefined, job('c'));
    stop.abort();
    await assert.rejects(second, { name: 'AbortError' });
    assert.deepEqual([await first, await third], ['a', 'c']);
    assert.deepEqual(log, ['+a', '-a', '+c', '-c']);
    await assert.rejects(turns.take(undefined, () => Promise.reject(new Error('x'))), /x/);
    assert.equal(await turns.take(undefined, job('d')), 'd');
  });
});

describe('rpc', () => {
  class FakePort {
    sent = [];
    listeners = { message: [], error: [], messageerror: [] };
    terminated = false;
    postMessage(message) {
      if (message.call?.frames[0] === 'uncloneable') throw new DOMException('could not be cloned', 'DataCloneError');
      this.sent.push(message);
    }
    addEventListener(type, listener) {
      this.listeners[type].push(listener);
    }
    terminate() {
      this.terminated = true;
    }
    say(data) {
      for (const listener of this.listeners.message) listener({ data });
    }
    fail(message) {
      for (const listener of this.listeners.error) listener({ message, preventDefault() {} });
    }
  }

  test('answers reach their callers in any order', async () => {
    const port = new FakePort();
    const rpc = new Rpc(port);
    const [a, b] = [rpc.call({ method: 'logits', frames: [{}] }), rpc.call({ method: 'features', frames: [{}], layers: [] })];
    port.say({ id: 1, value: 'b' });
    port.say({ id: 0, error: toWire(new AimError('image', 'bad')) });
    port.say({ id: 0, value: 'late' });
    assert.equal((await b).value, 'b');
    await assert.rejects(a, (error) => error instanceof AimError && error.code === 'image');
  });

  test('an abort, an answer and the end leave nothing waiting', async () => {
    const port = new FakePort();
    const rpc = new Rpc(port);
    const stop = new AbortController();
    const { signal } = stop;
    const call = () => rpc.call({ method: 'logits', frames: [{}] }, { signal });
    const [answered, rest] = [call(), call()];
    port.say({ id: 0, value: 1 });
    await answered;
    rpc.end(new AimError('disposed', 'over'));
    await assert.rejects(rest, { code: 'disposed' });
    await assert.rejects(call(), { code: 'disposed' });
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });

  test('abort rejects at once with the reason and tells the worker', async () => {
    const port = new FakePort();
    const rpc = new Rpc(port);
    const stop = new AbortController();
    const call = rpc.call({ method: 'logits', frames: [{}] }, { signal: stop.signal });
    const reason = new Error('enough');
    stop.abort(reason);
    await assert.rejects(call, reason);
    assert.deepEqual(port.sent.at(-1), { id: 0, abort: true });
    await assert.rejects(rpc.call({ method: 'logits', frames: [{}] }, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  });

  test('a worker that does not start or stops: every call ends', async () => {
    for (const [break_, code, text] of [
      [(port) => port.fail('404'), 'network', /could not be started: 404\. Serve.*worker: false/],
      [(port) => (port.say({ id: 99, value: 1 }), port.fail('boom')), 'device_lost', /stopped: boom/],
    ]) {
      const port = new FakePort();
      const rpc = new Rpc(port);
      const calls = [rpc.call({ method: 'logits', frames: [{}] }), rpc.call({ method: 'logits', frames: [{}] })];
      break_(port);
      for (const call of calls) await assert.rejects(call, (error) => error.code === code && text.test(error.message));
      await assert.rejects(rpc.call({ method: 'logits', frames: [{}] }), { code });
      assert.equal(port.terminated, true);
    }
  });

  test('a frame that does not reach the worker is closed, one that does is not', async () => {
    let open = 0;
    const call = (rpc, signal, bitmap = { close: () => (open -= 1) }) => ((open += 1), rpc.call({ method: 'classify', frames: [{ kind: 'bitmap', bitmap }], topK: 1 }, { signal }));
    const port = new FakePort();
    const rpc = new Rpc(port);
    void call(rpc).catch(() => {});
    assert.equal(open, 1);
    open = 0;
    await assert.rejects(call(rpc, AbortSignal.abort()), { name: 'AbortError' });
    port.postMessage = () => {
      throw new DOMException('could not be cloned', 'DataCloneError');
    };
    await assert.rejects(call(rpc), { code: 'image' });
    rpc.end(new AimError('disposed', 'over'));
    await assert.rejects(call(rpc), { code: 'disposed' });
    assert.equal(open, 0);
  });

  test('options that cannot be handed over are no image error', async () => {
    const port = new FakePort();
    port.postMessage = () => {
      throw new DOMException('could not be cloned', 'DataCloneError');
    };
    await assert.rejects(new Rpc(port).call({ method: 'load', options: {} }), (error) => error.code === 'option' && /could not be cloned.*worker: false/.test(error.message));
  });

  test('a picture that cannot be handed over is an image error', async () => {
    const rpc = new Rpc(new FakePort());
    await assert.rejects(rpc.call({ method: 'classify', frames: ['uncloneable'], topK: 1 }), (error) => error.code === 'image' && /origin/.test(error.message));
  });
});

describe('errors', () => {
  test('cross from the worker with code and cause', () => {
    const error = fromWire(structuredClone(toWire(new AimError('network', 'm', { cause: new TypeError('c') }))));
    assert.ok(error instanceof AimError && error instanceof Error);
    assert.deepEqual([error.name, error.code, error.message, error.cause.message], ['AimError', 'network', 'm', 'TypeError: c']);
    assert.equal(fromWire(toWire(new DOMException('gone', 'AbortError'))).name, 'AbortError');
  });

  test('plain errors of the wasm module become AimErrors', () => {
    assert.equal(toError(Object.assign(new Error('m'), { name: 'AimError', code: 'integrity' }), 'image').code, 'integrity');
    assert.equal(toError(Object.assign(new Error('m'), { code: 'aborted' }), 'image').name, 'AbortError');
    assert.equal(toError('text', 'format').code, 'format');
    assert.equal(toError(Object.assign(new Error('m'), { code: 'ENOENT' }), 'format').code, 'format');
  });
});

describe('small parts', () => {
  test('the size in a header', () => {
    const bytes = (...parts) => Uint8Array.from(parts.flatMap((part) => (typeof part === 'string' ? [...part].map((char) => char.charCodeAt(0)) : part)));
    const big = [0, 0, 0x4e, 0x20];
    assert.deepEqual(sizeOf(bytes([0x89], 'PNG\r\n', [0x1a, 10, 0, 0, 0, 13], 'IHDR', big, big)), { width: 20000, height: 20000 });
    assert.deepEqual(sizeOf(bytes('GIF89a', [1, 2, 3, 4])), { width: 0x201, height: 0x403 });
    assert.deepEqual(sizeOf(bytes([0xff, 0xd8, 0xff, 0xe1, 0, 4, 9, 9, 0xff, 0xc2, 0, 11, 8, 1, 0, 2, 0])), { width: 512, height: 256 });
    assert.deepEqual(sizeOf(bytes('RIFF', [0, 0, 0, 0], 'WEBPVP8X', [10, 0, 0, 0, 0, 0, 0, 0, 0xff, 1, 0, 0xff, 0, 0])), { width: 512, height: 256 });
    assert.deepEqual(sizeOf(bytes('BM', Array(12).fill(0), [40, 0, 0, 0, 1, 2, 0, 0, 0xff, 0xff, 0xff, 0xff])), { width: 513, height: 1 });
    // Of OS/2.
    assert.deepEqual(sizeOf(bytes('BM', Array(12).fill(0), [12, 0, 0, 0, 1, 2, 3, 4, 1, 0, 24, 0])), { width: 513, height: 1027 });
    assert.equal(sizeOf(bytes([0xff, 0xd8, 0xff, 0xe1])), undefined);
    assert.equal(sizeOf(bytes('hello, this is no picture at all')), undefined);
    assert.equal(sizeOf(new Uint8Array()), undefined);
  });

  test('whether the end of a file is missing', async () => {
    const [jpeg, end, video] = [Uint8Array.of(0xff, 0xd8, 0xff, 0xe1), Uint8Array.of(0xff, 0xd9), new Uint8Array(1 << 17)];
    const cut = async (...parts) => {
      const blob = new Blob(parts);
      return isCut(new Uint8Array(await blob.slice(0, 1 << 20).arrayBuffer()), blob);
    };
    assert.equal(await cut(jpeg, end), false);
    assert.equal(await cut(jpeg, video), true);
    assert.equal(await cut(jpeg, end, video), true);
    // Photographs with a video behind them, as phones take them.
    assert.equal(await cut(jpeg, '<x GCamera:MotionPhoto="1"/>', end, video), false);
    assert.equal(await cut(jpeg, '<x GCamera:MicroVideo="1"/>', end, video), false);
    assert.equal(await cut(jpeg, end, video, 'SEFT'), false);
    assert.equal(await cut(jpeg, end, 'SEFT', video), true);
    assert.equal(await cut(Uint8Array.of(0x89), 'PNG', video), true);
    assert.equal(await cut(Uint8Array.of(0x89), 'PNG MotionPhoto', video), true);
    assert.equal(await cut(Uint8Array.of(0x89), 'PNG', video, 'IEND'), false);
    assert.equal(await cut('RIFF', Uint8Array.of(8, 0, 0, 0), 'WEBPVP8 '), false);
    assert.equal(await cut('RIFF', Uint8Array.of(9, 0, 0, 0), 'WEBPVP8 '), true);
    assert.equal(await cut('GIF89a'), false);
    assert.equal(await cut(Uint8Array.of(0xff, 0x0a), 'JPEG XL'), false);
  });

  test('whether a JPEG has to be turned', () => {
    const ascii = (text) => [...text].map((char) => char.charCodeAt(0));
    const exif = (order, number, value) => {
      const two = (n) => (order === 'II' ? [n & 255, n >> 8] : [n >> 8, n & 255]);
      const four = (n) => (order === 'II' ? [...two(n), 0, 0] : [0, 0, ...two(n)]);
      const tiff = [...ascii(order), ...two(42), ...four(8), ...two(2), ...two(0x010f), ...two(2), ...four(1), 65, 0, 0, 0, ...two(number), ...two(3), ...four(1), ...two(value), 0, 0];
      const body = [...ascii('Exif'), 0, 0, ...tiff];
      return Uint8Array.from([0xff, 0xd8, 0xff, 0xe0, 0, 4, 9, 9, 0xff, 0xe1, 0, body.length + 2, ...body, 0xff, 0xda, 0, 2]);
    };
    for (const order of ['II', 'MM']) {
      assert.equal(isTurned(exif(order, 0x0112, 6)), true, order);
      assert.equal(isTurned(exif(order, 0x0112, 1)), false, order);
      assert.equal(isTurned(exif(order, 0x0113, 6)), false, order);
      assert.equal(isTurned(exif(order, 0x0112, 6).subarray(0, 40)), false, order);
    }
    assert.equal(isTurned(Uint8Array.from([0xff, 0xd8, 0xff, 0xda, 0, 2])), false);
    assert.equal(isTurned(Uint8Array.from([0xff, 0xd8, 0, 0, 0, 0])), false);
  });

  test('data URLs, as the Fetch standard reads them', () => {
    const hi = Uint8Array.of(104, 105);
    for (const [url, type, bytes] of [
      ['data:text/plain;base64,aGk=', 'text/plain', hi],
      ['data:text/plain;BASE64,aGk=', 'text/plain', hi],
      ['data:text/plain; base64,aGk=', 'text/plain', hi],
      ['DATA:image/png;name=a;base64,aGk', 'image/png;name=a', hi],
      // Whitespace, without padding, and in percent-encoding.
      ['data:;base64,%20a%20Gk%0A', '', hi],
      ['data:;base64,aGk%3D', '', hi],
      ['data:;charset=utf-8,hi', 'text/plain;charset=utf-8', hi],
      ['data: text/plain ,hi', 'text/plain', hi],
      ['data:,a%20b', '', Uint8Array.of(97, 32, 98)],
      ['data:,a,b', '', Uint8Array.of(97, 44, 98)],
      // What is no percent-encoding stands for itself, bytes need not be UTF-8, a fragment is no part of it.
      ['data:,%zz%4', '', Uint8Array.of(37, 122, 122, 37, 52)],
      ['data:,%ff%C3', '', Uint8Array.of(255, 0xc3)],
      ['data:,hi#there', '', hi],
      ['data:text/base64,aGk=', 'text/base64', Uint8Array.of(97, 71, 107, 61)],
      ['data:x;base64;y,hi', 'x;base64;y', hi],
      ['data:,', '', new Uint8Array()],
    ]) {
      assert.deepEqual(dataUrl(url), { type, bytes }, url);
    }
    assert.equal(dataUrl('https://host/'), undefined);
    for (const url of ['data:', 'data:image/png;base64', 'data:#,', 'data:;base64,a', 'data:;base64,a=Gk', 'data:;base64,a*Gk']) {
      assert.throws(() => dataUrl(url), (error) => error instanceof AimError && error.code === 'image' && /data: URL is malformed/.test(error.message), url);
    }
  });

  test('a part of a picture, turned', () => {
    // 3 x 2: a b c / d e f
    const [a, b, c, d, e, f] = [1, 2, 3, 4, 5, 6];
    const data = Uint8Array.from([a, b, c, d, e, f].flatMap((value) => [value, value, value, 255]));
    const look = (view) => {
      const { data: got, width, height } = seen({ data, width: 3, height: 2 }, { left: 0, top: 0, right: 1, bottom: 1, quarters: 0, ...view });
      return [width, height, ...got.filter((_, i) => i % 4 === 0)];
    };
    assert.deepEqual(look({}), [3, 2, a, b, c, d, e, f]);
    assert.deepEqual(look({ quarters: 1 }), [2, 3, d, a, e, b, f, c]);
    assert.deepEqual(look({ quarters: 2 }), [3, 2, f, e, d, c, b, a]);
    assert.deepEqual(look({ quarters: 3 }), [2, 3, c, f, b, e, a, d]);
    assert.deepEqual(look({ left: 1 / 3, bottom: 0.5 }), [2, 1, b, c]);
    assert.deepEqual(look({ left: 1 / 3, quarters: 1 }), [2, 2, e, b, f, c]);
    assert.deepEqual(look({ left: 0.99, top: 0.99 }), [1, 1, f]);
    assert.equal(data[0], a);
  });

  test('a file without end is given up', async (context) => {
    let isOver = false;
    const body = new ReadableStream({ pull: (out) => out.enqueue({ byteLength: 1e8 }), cancel: () => (isOver = true) });
    context.mock.method(globalThis, 'fetch', async () => ({ ok: true, headers: new Headers(), body }));
    await assert.rejects(fetchBlob('https://host/', new AbortController(), 30), (error) => error.code === 'image' && /too large: at most 400 MB/.test(error.message));
    assert.equal(isOver, true);
  });

  test('a JPEG file that is mostly padding is not copied into the wasm heap', async () => {
    const head = Uint8Array.of(0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0);
    const padded = (megabytes) => ({ kind: 'blob', blob: new Blob([head, ...Array(megabytes).fill(new Uint8Array(1e6)), Uint8Array.of(0xff, 0xd9)]) });
    globalThis.createImageBitmap = () => Promise.reject(new Error('by the browser'));
    globalThis.OffscreenCanvas = class {
      getContext = () => ({});
    };
    try {
      const decoder = () => ({ rgb: Uint8Array.of(1, 2, 3), width: 1, height: 1 });
      assert.deepEqual((await pixels(padded(1), decoder)).data, Uint8Array.of(1, 2, 3, 255));
      await assert.rejects(pixels(padded(64), decoder), (error) => error.cause.message === 'by the browser');
    } finally {
      delete globalThis.createImageBitmap;
      delete globalThis.OffscreenCanvas;
    }
  });

  test('answers with ranges', async () => {
    const bytes = Uint8Array.of(0, 1, 2, 3, 4);
    const get = async (range) => {
      const response = answer(bytes, { headers: { range } });
      return [response.status, response.headers.get('content-range'), [...new Uint8Array(await response.arrayBuffer())]];
    };
    assert.deepEqual(await get('bytes=1-2'), [206, 'bytes 1-2/5', [1, 2]]);
    assert.deepEqual(await get('bytes=3-'), [206, 'bytes 3-4/5', [3, 4]]);
    assert.deepEqual(await get('bytes=3-99'), [206, 'bytes 3-4/5', [3, 4]]);
    assert.deepEqual((await get('bytes=5-6')).slice(0, 2), [416, 'bytes */5']);
    assert.equal(answer(bytes, {}).status, 200);
  });

  test('software adapters are known', () => {
    assert.ok(software({ info: { vendor: 'google', architecture: 'swiftshader' } }));
    assert.ok(software({ info: { vendor: 'mesa', description: 'llvmpipe (LLVM 15)' } }));
    assert.ok(software({ info: { vendor: 'x', isFallbackAdapter: true } }));
    assert.equal(software({ info: { vendor: 'nvidia', architecture: 'ampere' } }), undefined);
    assert.match(cpuBuild(), /^cpu(-relaxed)?$/);
  });
});

test('short names: a module starts by its own glue alone, and what is short stays as it is', () => {
  const name = (text) => [text.length, ...Buffer.from(text)];
  const section = (id, content) => [id, content.length, ...content];
  const [alert, load] = ['__wbg_alert_0123456789abcdef', 'classifier_load'];
  const wasm = Buffer.from([
    ...[0, 97, 115, 109, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 0, 0]),
    ...section(2, [1, ...name('m'), ...name(alert), 0, 0]),
    ...section(7, [1, ...name(load), 0, 0]),
  ]);
  const glue = (word) => `(module, said) => new WebAssembly.Instance(module, { m: { ${alert}: () => said.push('${word}') } }).exports.${load}()`;
  const [old, next, same] = ['old', 'next', 'old'].map((word) => shorten(wasm, glue(word)));
  const start = (one, by) => {
    const said = [];
    // What was shortened is a function.
    (0, eval)(by.glue)(new WebAssembly.Module(one.wasm), said);
    return said;
  };
  assert.doesNotMatch(old.glue, /alert|classifier/);
  assert.deepEqual([start(old, old), start(next, next), start(old, same)], [['old'], ['next'], ['old']]);
  assert.throws(() => start(old, next), WebAssembly.LinkError);
  assert.throws(() => start(next, old), WebAssembly.LinkError);
  const again = shorten(old.wasm, old.glue);
  assert.deepEqual([again.wasm.equals(old.wasm), again.glue], [true, old.glue]);
});
