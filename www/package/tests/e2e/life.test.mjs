// Load, abort, progress, dispose, memory, delivery: in a page without WebGPU.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { open, site } from '../lib/site.mjs';
import { smallModel } from '../lib/small-model.mjs';
import { mockModel, mockWasm } from '../mock/lay-out.mjs';

const CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";

let browser;
before(async () => void (browser = await launch({ webgpu: 'off', args: ['--js-flags=--expose-gc'] })));
after(() => browser?.close());

/** Runs `body` in a fresh page of a fresh site. */
async function visit(body, options = {}) {
  const served = await site(options);
  try {
    const page = await open(browser, served.url, options);
    const result = await page.evaluate(body, options.argument);
    const { problems } = page;
    await page.context().close();
    return { result, log: served.log, problems };
  } finally {
    await served.close();
  }
}

describe('load', () => {
  test('without WebGPU: the CPU, in a worker, with the reason; only its build is fetched', async () => {
    const { result, log, problems } = await visit(async () => {
      const aim = await lib.AimClassifier.fromPretrained('/small/');
      const { device, worker, reason, build, blocks, bytesFetched, wasmBytes, loadMs } = aim.info;
      return { device, worker, reason, build, blocks, numbers: [bytesFetched, wasmBytes, loadMs].every((value) => value > 0), labels: aim.labels.length, dtype: aim.dtype };
    });
    assert.equal(result.device, 'wasm');
    assert.equal(result.worker, true);
    assert.match(result.reason, /WebGPU/);
    assert.match(result.build, /^cpu/);
    assert.equal(result.labels, 12);
    assert.ok(result.numbers);
    assert.deepEqual([...new Set(log.filter((path) => path.startsWith('/pkg/wasm/')))].sort(), [`/pkg/wasm/${result.build}/aim_web.js`, `/pkg/wasm/${result.build}/aim_web_bg.wasm`]);
    assert.deepEqual(problems, []);
  });

  test('device: webgpu without WebGPU is a typed error', async () => {
    const { result } = await visit(() => outcome(lib.AimClassifier.fromPretrained('/small/', { device: 'webgpu' })));
    assert.equal(result.code, 'unsupported');
  });

  test('on request without a worker: the same logits', async () => {
    const { result } = await visit(async () => {
      const there = await lib.AimClassifier.fromPretrained('/small/');
      const here = await lib.AimClassifier.fromPretrained('/small/', { worker: false });
      const canvas = testCanvas();
      return [here.info.worker, difference(await here.logits(canvas), await there.logits(canvas)), (await here.features(canvas)).dims];
    });
    assert.deepEqual(result.slice(0, 2), [false, 0]);
    assert.deepEqual(result[2], [1, 64, 64]);
  });

  test('progress: complete, at most 100, the total never falls', async () => {
    const { result } = await visit(async () => {
      const events = [];
      await lib.AimClassifier.fromPretrained('/small/', { progress_callback: (event) => events.push(event) });
      return events;
    });
    const totals = result.filter(({ status }) => status === 'progress_total');
    assert.ok(totals.length > 0);
    assert.ok(result.every((event) => !('progress' in event) || (event.progress >= 0 && event.progress <= 100 && event.loaded <= event.total)));
    assert.deepEqual(totals.map(({ progress }) => progress), totals.map(({ progress }) => progress).sort((a, b) => a - b));
    assert.equal(totals.at(-1).progress, 100);
    const stages = result.map(({ status }) => status);
    for (const status of ['initiate', 'download', 'progress', 'done', 'warmup']) assert.ok(stages.includes(status), status);
    assert.equal(stages.at(-1), 'ready');
    assert.equal(stages.filter((status) => status === 'ready').length, 1);
    assert.ok(result.some(({ file }) => file === 'model.safetensors'));
  });

  test('weights in few bits', async () => {
    const { result } = await visit(async () => {
      const canvas = testCanvas();
      const logits = {};
      const names = [];
      for (const dtype of ['fp32', 'q8', 'q4']) {
        const aim = await lib.AimClassifier.fromPretrained('/small/', { dtype });
        logits[dtype] = await aim.logits(canvas);
        names.push(aim.dtype);
        await aim.dispose();
      }
      const scale = Math.max(...logits.fp32.map(Math.abs));
      return { names, q8: difference(logits.q8, logits.fp32) / scale, q4: difference(logits.q4, logits.fp32) / scale };
    });
    assert.deepEqual(result.names, ['fp32', 'q8', 'q4']);
    // Near, and not the same: 8 bits are nearer than 4.
    assert.ok(result.q8 > 0 && result.q8 < 0.05, `8 bits are off by ${result.q8}`);
    assert.ok(result.q4 > result.q8 && result.q4 < 0.5, `4 bits are off by ${result.q4}`);
  });

  test('abort: before, while the weights come, in a request', async () => {
    const files = smallModel();
    // Its weights begin and never end.
    const stall = (url, request, response) => {
      if (!url.pathname.startsWith('/stalled/')) return false;
      const content = files[url.pathname.slice('/stalled/'.length)];
      if (typeof content === 'string') response.end(content);
      else if (content) response.writeHead(200, { 'content-length': content.length }).write('x');
      else response.writeHead(404).end();
      return true;
    };
    const { result } = await visit(
      async () => {
        const before = await outcome(lib.AimClassifier.fromPretrained('/small/', { signal: AbortSignal.abort() }));
        const during = await outcome(lib.AimClassifier.fromPretrained('/stalled/', { signal: AbortSignal.timeout(1000) }));
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        const stop = new AbortController();
        const canvas = testCanvas();
        const requests = [aim.classify(canvas), aim.classify(canvas, { signal: stop.signal }), aim.classify(canvas)].map(outcome);
        stop.abort();
        return { before, during, requests: await Promise.all(requests) };
      },
      { answer: stall },
    );
    assert.equal(result.before.name, 'AbortError');
    assert.equal(result.during.name, 'TimeoutError');
    assert.deepEqual(result.requests.map(({ ok, name }) => (ok ? 'ok' : name)), ['ok', 'AbortError', 'ok']);
  });

  test('a model that is not there, HTML in place of a model', async () => {
    const { result } = await visit(async () => [
      await outcome(lib.AimClassifier.fromPretrained('/none/')),
      await outcome(lib.AimClassifier.fromPretrained('/small/', { dtype: 'int3' })),
      await outcome(lib.AimClassifier.fromPretrained('not a name')),
    ]);
    assert.deepEqual(result.map(({ aim, code }) => [aim, code]), [[true, 'not_found'], [true, 'option'], [true, 'option']]);
  });

  test('two at once, and after them a third', async () => {
    const { result } = await visit(async () => {
      const canvas = testCanvas();
      const two = await Promise.all([lib.AimClassifier.fromPretrained('/small/'), lib.AimClassifier.fromPretrained('/small/')]);
      const logits = await Promise.all(two.map((aim) => aim.logits(canvas)));
      await Promise.all(two.map((aim) => aim.dispose()));
      const third = await lib.AimClassifier.fromPretrained('/small/');
      return [difference(...logits), difference(await third.logits(canvas), logits[0])];
    });
    assert.deepEqual(result, [0, 0]);
  });

  test('pipeline has the shape of transformers.js', async () => {
    const { result } = await visit(async () => {
      const classifier = await lib.pipeline('image-classification', '/small/');
      const canvas = testCanvas();
      const one = await classifier(canvas, { top_k: 2 });
      const many = await classifier([canvas, canvas]);
      await classifier.dispose();
      return { one, many: many.map((list) => list.length), after: await outcome(classifier(canvas)) };
    });
    assert.equal(result.one.length, 2);
    assert.deepEqual(Object.keys(result.one[0]), ['label', 'score']);
    assert.deepEqual(result.many, [5, 5]);
    assert.equal(result.after.code, 'disposed');
  });
});

describe('dispose', () => {
  test('create, dispose, create; what was under way ends as disposed', async () => {
    const { result } = await visit(async () => {
      const canvas = testCanvas();
      const logits = [];
      for (let i = 0; i < 3; i++) {
        const aim = await lib.AimClassifier.fromPretrained('/small/', { worker: i !== 1 });
        logits.push(await aim.logits(canvas));
        await aim.dispose();
        await aim.dispose();
      }
      const aim = await lib.AimClassifier.fromPretrained('/small/');
      const pending = outcome(aim.classify(canvas));
      await aim.dispose();
      return { same: [difference(logits[0], logits[1]), difference(logits[0], logits[2])], pending: await pending, later: await outcome(aim.classify(canvas)), frame: await outcome(aim.classifyForVideo(canvas)) };
    });
    assert.deepEqual(result.same, [0, 0]);
    for (const ended of [result.pending, result.later, result.frame]) assert.equal(ended.code, 'disposed');
  });
});

describe('a trap that no promise hears of', () => {
  const folder = mkdtempSync(join(tmpdir(), 'aim-web-mock-'));
  mockWasm(folder);
  after(() => rmSync(folder, { recursive: true, force: true }));
  const model = mockModel({ strayOn: { 'cpu-relaxed': 1, cpu: 1 } });
  model['model.safetensors'] = [...model['model.safetensors']];

  for (const worker of [true, false]) {
    test(`${worker ? 'in a worker' : 'in the page'}: device_lost, and no other trap is taken`, async () => {
      const { result, problems } = await visit(
        async ({ model, worker }) => {
          const files = { ...model, 'model.safetensors': Uint8Array.from(model['model.safetensors']) };
          const aim = await lib.AimClassifier.fromPretrained(files, { wasmUrl: '/mock/', worker });
          // (func (export "f") unreachable): the page's own.
          const { instance } = await WebAssembly.instantiate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11));
          queueMicrotask(instance.exports.f);
          const heard = await new Promise((resolve) => addEventListener('error', (event) => resolve(!event.defaultPrevented), { once: true }));
          return { heard, ended: await outcome(aim.classify(testCanvas())) };
        },
        { mounts: { '/mock/': `${folder}/` }, argument: { model, worker } },
      );
      assert.equal(result.heard, true);
      assert.equal(result.ended.code, 'device_lost');
      assert.match(result.ended.message, /internal error/);
      // The page's own trap is told of, ours is not a second time.
      assert.equal(problems.length, 1, problems.join());
    });
  }
});

describe('memory', () => {
  test('500 frames leave the wasm heap as it was', async () => {
    const { result } = await visit(async () => {
      const aim = await lib.AimClassifier.fromPretrained('/small/');
      const canvas = testCanvas(640, 480);
      const heap = [];
      for (let i = 0; i < 500; i++) {
        const frame = new VideoFrame(canvas, { timestamp: i });
        const result = await aim.classifyForVideo(frame, i);
        frame.close();
        if (result === null) throw new Error('a frame was dropped though nothing else was under way');
        if (i % 50 === 49) heap.push(aim.info.wasmBytes);
      }
      return heap;
    });
    assert.equal(result.at(-1), result[0], `wasm heap: ${result}`);
  });
});

describe('garbage', () => {
  const folder = mkdtempSync(join(tmpdir(), 'aim-web-mock-'));
  mockWasm(folder);
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('what is disposed of, or has stopped, is held by nobody, and no file of it', async () => {
    const models = [smallModel(), mockModel({ panicOn: { 'cpu-relaxed': 1, cpu: 1 } })].map((model) => ({ ...model, 'model.safetensors': [...model['model.safetensors']] }));
    const { result } = await visit(
      async ([small, traps]) => {
        const held = {};
        const canvas = testCanvas();
        const inMemory = (model, what) => {
          const files = { ...model, 'model.safetensors': Uint8Array.from(model['model.safetensors']) };
          held[`${what}: its weights`] = new WeakRef(files['model.safetensors']);
          return files;
        };
        const run = async (what, model, options, end) => {
          const aim = await lib.AimClassifier.fromPretrained(model, options);
          held[what] = new WeakRef(aim);
          await end(aim);
        };
        const named = async (aim) => {
          await aim.classify(canvas);
          await aim.dispose();
        };
        await run('in a worker', '/small/', {}, named);
        await run('in the page', '/small/', { worker: false }, named);
        await run('from memory, in a worker', inMemory(small, 'in a worker'), {}, named);
        await run('from memory, in the page', inMemory(small, 'in the page'), { worker: false }, named);
        await run('disposed of in a request', '/small/', {}, (aim) => {
          const ended = outcome(aim.classify(canvas));
          void aim.dispose();
          return ended;
        });
        const stopped = [];
        for (const worker of [true, false]) {
          await run(`stopped, ${worker}`, inMemory(traps, `stopped, ${worker}`), { wasmUrl: '/mock/', worker }, async (aim) => {
            stopped.push((await outcome(aim.classify(canvas))).code, (await outcome(aim.classify(canvas))).code);
          });
        }
        await run('a lesson', undefined, {}, async (aim) => {
          const lesson = aim.teach();
          await lesson.add('a', [canvas, canvas]);
          await lesson.add('b', [testCanvas(90, 30), testCanvas(30, 90)]);
          await lesson.train();
          held['the classifier of a lesson'] = new WeakRef(lesson.classifier);
          held.lesson = new WeakRef(lesson);
          await lesson.classifier.classify(canvas);
          await lesson.classifier.dispose();
          await lesson.dispose();
          await aim.dispose();
        });
        // A part of a page that ends its model, and is dropped with all that is on it.
        await run('a lesson in a part of a page', undefined, {}, async (aim) => {
          const part = {
            aim,
            lesson: aim.teach(),
            async end() {
              await this.aim.dispose();
            },
          };
          held['the part of a page'] = new WeakRef(part);
          await part.lesson.add('a', [canvas, canvas]);
          await part.lesson.add('b', [testCanvas(90, 30), testCanvas(30, 90)]);
          await part.lesson.train();
          await part.end();
        });
        // What one collection frees may let the next free more.
        for (let i = 0; i < 10; i++) {
          gc();
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return { stopped, held: Object.keys(held).filter((what) => held[what].deref()) };
      },
      { mounts: { '/mock/': `${folder}/` }, argument: models },
    );
    assert.deepEqual(result.stopped, Array(4).fill('device_lost'));
    assert.deepEqual(result.held, []);
  });
});

describe('delivery', () => {
  test('under a strict Content-Security-Policy', async () => {
    const { result, problems } = await visit(
      async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        const here = await lib.AimClassifier.fromPretrained('/small/', { worker: false });
        const canvas = testCanvas();
        return [(await aim.classify(canvas)).length, (await here.classify(canvas)).length, (await aim.classify(canvas.toDataURL())).length];
      },
      { headers: { 'content-security-policy': CSP } },
    );
    assert.deepEqual(result, [5, 5, 5]);
    assert.deepEqual(problems, []);
  });

  test("a policy without 'wasm-unsafe-eval', and one that forbids workers, are told as such", async () => {
    const { result } = await visit(() => outcome(lib.AimClassifier.fromPretrained('/small/', { worker: false })), { headers: { 'content-security-policy': "default-src 'self'" } });
    assert.equal(result.code, 'unsupported');
    assert.match(result.message, /wasm-unsafe-eval/);
    const blocked = await visit(() => outcome(lib.AimClassifier.fromPretrained('/small/', { worker: true })), { headers: { 'content-security-policy': `${CSP}; worker-src 'none'` } });
    assert.match(blocked.result.message, /worker: false/);
    assert.equal(blocked.result.aim, true);
  });

  const broken = (change) => ({ answer: (url, _request, response) => url.pathname.endsWith('.wasm') && (change(response), true) });
  for (const [what, options, code, text] of [
    ['HTML', broken((response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><p>Hello')), 'format', /HTML page/],
    ['HTML called wasm', broken((response) => response.writeHead(200, { 'content-type': 'application/wasm' }).end('<!doctype html><p>Hello')), 'format', /not the WebAssembly/],
    ['404', broken((response) => response.writeHead(404).end()), 'not_found', /404/],
    ['500', broken((response) => response.writeHead(500).end()), 'network', /500/],
  ]) {
    test(`the wasm file is ${what}: the error names the URL and wasmUrl`, async () => {
      const { result } = await visit(async () => [await outcome(lib.AimClassifier.fromPretrained('/small/')), await outcome(lib.AimClassifier.fromPretrained('/small/', { worker: false }))], options);
      for (const ended of result) {
        assert.equal(ended.code, code, JSON.stringify(ended));
        assert.match(ended.message, text);
        assert.match(ended.message, /aim_web_bg\.wasm/);
        assert.match(ended.message, /wasmUrl/);
      }
    });
  }

  test('a host that does not know the type of .wasm still works', async () => {
    const { PACKAGE } = await import('../lib/site.mjs');
    const { readFileSync } = await import('node:fs');
    const { result } = await visit(async () => (await lib.AimClassifier.fromPretrained('/small/')).device, {
      answer: (url, _request, response) => url.pathname.endsWith('.wasm') && (response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(readFileSync(PACKAGE + url.pathname.slice('/pkg/'.length))), true),
    });
    assert.equal(result, 'wasm');
  });

  test('wasmUrl: another folder, or one that has nothing', async () => {
    const { PACKAGE } = await import('../lib/site.mjs');
    const { result, log } = await visit(
      async () => [(await lib.AimClassifier.fromPretrained('/small/', { wasmUrl: './elsewhere' })).device, await outcome(lib.AimClassifier.fromPretrained('/small/', { wasmUrl: '/nowhere/' }))],
      { mounts: { '/elsewhere/': `${PACKAGE}wasm/` } },
    );
    assert.equal(result[0], 'wasm');
    assert.ok(log.some((path) => path.startsWith('/elsewhere/cpu')));
    assert.equal(log.some((path) => path.startsWith('/pkg/wasm')), false);
    assert.equal(result[1].aim, true);
    assert.match(result[1].message, /nowhere.*wasmUrl/s);
  });
});
