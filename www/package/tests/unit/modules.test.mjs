// The rooms of the house one by one, without a wasm module.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { source } from '../lib/source.mjs';

const { AimError, fromWire, toError, toWire } = await source('errors');
const { cacheName, loadOptions, classifyOptions, featureOptions } = await source('options');
const { Progress } = await source('progress');
const { NewestWins } = await source('video');
const { Turns } = await source('turns');
const { Rpc } = await source('rpc');
const { isTurned, sizeOf } = await source('frames/header');
const { dataUrl } = await source('data-url');
const { answer } = await source('local-answer');
const { cpuBuild, software } = await source('device');
const { RemoteEngine, anyRemote } = await source('remote');
const { fetchBlob } = await source('frames/fetch-blob');
const { pixels } = await source('frames/pixels');

after(() => rmSync(fileURLToPath(new URL(`../.build/${process.pid}`, import.meta.url)), { recursive: true, force: true }));

const tick = () => new Promise((resolve) => setTimeout(resolve));

describe('options', () => {
  const wrong = (run, text) => assert.throws(run, (error) => error instanceof AimError && error.code === 'option' && text.test(error.message) || assert.fail(`${error.code}: ${error.message}`));

  test('defaults', () => {
    const { engine, worker, signal } = loadOptions(undefined, undefined);
    assert.deepEqual(engine.model, { kind: 'embedded' });
    assert.deepEqual([engine.device, engine.dtype, engine.cache, engine.warmup, worker, signal], ['auto', 'auto', true, true, undefined, undefined]);
  });

  test('a value that is not allowed: the message names what is', () => {
    wrong(() => loadOptions(undefined, { device: 'gpu' }), /device: 'gpu' is not valid: it must be 'auto', 'webgpu' or 'wasm'/);
    wrong(() => loadOptions(undefined, { dtype: 'int8' }), /'auto', 'fp32', 'fp16', 'q8' or 'q4'/);
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
      assert.equal(cacheName('./small/'), 'https://page.example/dir/small/');
      assert.equal(cacheName(new URL('https://host/folder')), 'https://host/folder/');
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

describe('video', () => {
  test('one at work, one waiting, the newest wins, dropped inputs are given back', async () => {
    const gates = [];
    const dropped = [];
    const video = new NewestWins((input) => new Promise((resolve) => gates.push(() => resolve(input))), (input) => dropped.push(input));
    const results = [1, 2, 3, 4].map((input) => video.push(input));
    assert.equal(gates.length, 1);
    assert.deepEqual(dropped, [2, 3]);
    assert.equal(await results[1], null);
    gates[0]();
    assert.equal(await results[0], 1);
    await tick();
    assert.equal(gates.length, 2);
    gates[1]();
    assert.equal(await results[3], 4);
  });

  test('an error is its own frame\'s', async () => {
    const video = new NewestWins(async (input) => {
      if (input === 1) throw new Error('one');
      return input;
    }, () => {});
    const [first, second] = [video.push(1), video.push(2)];
    await assert.rejects(first, /one/);
    assert.equal(await second, 2);
    assert.equal(await video.push(3), 3);
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
      if (message.call?.frame === 'uncloneable') throw new DOMException('could not be cloned', 'DataCloneError');
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
    const rpc = new Rpc(port, 'w.js');
    const [a, b] = [rpc.call({ method: 'listCached' }), rpc.call({ method: 'destroyDevice' })];
    port.say({ id: 1, value: 'b' });
    port.say({ id: 0, error: toWire(new AimError('image', 'bad')) });
    port.say({ id: 0, value: 'late' });
    assert.equal((await b).value, 'b');
    await assert.rejects(a, (error) => error instanceof AimError && error.code === 'image');
  });

  test('abort rejects at once with the reason and tells the worker', async () => {
    const port = new FakePort();
    const rpc = new Rpc(port, 'w.js');
    const stop = new AbortController();
    const call = rpc.call({ method: 'listCached' }, { signal: stop.signal });
    const reason = new Error('enough');
    stop.abort(reason);
    await assert.rejects(call, reason);
    assert.deepEqual(port.sent.at(-1), { id: 0, abort: true });
    await assert.rejects(rpc.call({ method: 'listCached' }, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  });

  test('a worker that does not start or stops: every call ends', async () => {
    for (const [break_, code, text] of [
      [(port) => port.fail('404'), 'network', /could not be started from w\.js.*worker: false/],
      [(port) => (port.say({ id: 99, value: 1 }), port.fail('boom')), 'device_lost', /stopped: boom/],
    ]) {
      const port = new FakePort();
      const rpc = new Rpc(port, 'w.js');
      const calls = [rpc.call({ method: 'listCached' }), rpc.call({ method: 'listCached' })];
      break_(port);
      for (const call of calls) await assert.rejects(call, (error) => error.code === code && text.test(error.message));
      await assert.rejects(rpc.call({ method: 'listCached' }), { code });
      assert.equal(port.terminated, true);
    }
  });

  test('a frame that does not reach the worker is closed, one that does is not', async () => {
    let open = 0;
    const call = (rpc, signal, bitmap = { close: () => (open -= 1) }) => ((open += 1), rpc.call({ method: 'classify', frame: { kind: 'bitmap', bitmap }, topK: 1 }, { signal }));
    const port = new FakePort();
    const rpc = new Rpc(port, 'w.js');
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
    await assert.rejects(new Rpc(port, 'w.js').call({ method: 'load', options: {} }), (error) => error.code === 'option' && /could not be cloned.*worker: false/.test(error.message));
  });

  test('a worker that stopped is not asked about the cache', async () => {
    const ports = [];
    globalThis.Worker = class extends FakePort {
      constructor() {
        super();
        ports.push(this);
      }
      postMessage({ id }) {
        queueMicrotask(() => this.say({ id, value: undefined, info: {}, labels: [] }));
      }
    };
    try {
      const [first, second] = [await RemoteEngine.load({}, () => {}), await RemoteEngine.load({}, () => {})];
      assert.equal(anyRemote(), second);
      ports[1].fail('boom');
      assert.equal(anyRemote(), first);
      await first.dispose();
      assert.equal(anyRemote(), undefined);
    } finally {
      delete globalThis.Worker;
    }
  });

  test('a picture that cannot be handed over is an image error', async () => {
    const rpc = new Rpc(new FakePort(), 'w.js');
    await assert.rejects(rpc.call({ method: 'classify', frame: 'uncloneable', topK: 1 }), (error) => error.code === 'image' && /origin/.test(error.message));
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
    assert.equal(sizeOf(bytes([0xff, 0xd8, 0xff, 0xe1])), undefined);
    assert.equal(sizeOf(bytes('hello, this is no picture at all')), undefined);
    assert.equal(sizeOf(new Uint8Array()), undefined);
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

  test('data URLs', () => {
    assert.deepEqual(dataUrl('data:text/plain;base64,aGk='), { type: 'text/plain', bytes: Uint8Array.of(104, 105) });
    assert.deepEqual(dataUrl('data:,a%20b'), { type: '', bytes: Uint8Array.of(97, 32, 98) });
    assert.equal(dataUrl('https://host/'), undefined);
  });

  test('a file without end is given up', async (context) => {
    const read = async () => ({ value: { byteLength: 1e8 } });
    context.mock.method(globalThis, 'fetch', async () => ({ ok: true, headers: new Headers(), body: { getReader: () => ({ read }) } }));
    await assert.rejects(fetchBlob('https://host/', new AbortController()), (error) => error.code === 'image' && /too large: at most 400 MB/.test(error.message));
  });

  test('a JPEG file that is mostly padding is not copied into the wasm heap', async () => {
    const head = Uint8Array.of(0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0);
    const padded = (megabytes) => ({ kind: 'blob', blob: new Blob([head, ...Array(megabytes).fill(new Uint8Array(1e6))]) });
    globalThis.createImageBitmap = () => Promise.reject(new Error('by the browser'));
    try {
      const decoder = () => ({ rgb: Uint8Array.of(1, 2, 3), width: 1, height: 1 });
      assert.deepEqual((await pixels(padded(1), decoder)).data, Uint8Array.of(1, 2, 3, 255));
      await assert.rejects(pixels(padded(64), decoder), (error) => error.cause.message === 'by the browser');
    } finally {
      delete globalThis.createImageBitmap;
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
