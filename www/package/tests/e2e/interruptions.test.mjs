// What stops, is blocked or goes away around a page, in Chromium and, where it is installed, in Firefox.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { BROWSERS } from '../lib/firefox.mjs';
import { PACKAGE, open, site } from '../lib/site.mjs';
import { writeFiles } from '../lib/small-model.mjs';

const CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";
const CORS = { 'access-control-allow-origin': '*' };

for (const [name, start] of Object.entries(BROWSERS)) {
  describe(name, () => {
    let browser;
    before(async () => void (browser = await start()));
    after(() => browser?.close());

    /** Runs `body` in a fresh page of a fresh site. */
    async function visit(body, { argument, ...options } = {}) {
      const served = await site(options);
      try {
        const page = await open(browser, served.url, options);
        const result = await page.evaluate(body, argument);
        await page.context().close();
        return { result, log: served.log, problems: page.problems };
      } finally {
        await served.close();
      }
    }

    /** Paths below /stalled/ are the wasm folder's; those that match begin and never end. */
    const stalled = (pattern, asked = () => {}) => ({
      mounts: { '/stalled/': `${PACKAGE}wasm/` },
      answer: (url, _request, response) => {
        if (!pattern.test(url.pathname)) return false;
        asked(response);
        response.writeHead(200, { 'content-type': url.pathname.endsWith('.js') ? 'text/javascript' : 'application/wasm' }).write(url.pathname.endsWith('.js') ? '//' : '\0asm');
        return true;
      },
    });

    for (const [what, pattern, text] of [
      ['wasm file', /^\/stalled\/.*\.wasm$/, /nothing for 5 seconds/],
      ['glue', /^\/stalled\/.*\.js$/, /did not come within 5 seconds/],
    ]) {
      test(`a ${what} that stops: a network error after the time-out, in a worker and in the page`, async () => {
        const { result } = await visit(async () => {
          const load = (worker) => outcome(lib.AimClassifier.fromPretrained('/small/', { wasmUrl: '/stalled/', worker, timeouts: { stall: 5 } }));
          return [await load(true), await load(false)];
        }, stalled(pattern));
        for (const ended of result) {
          assert.equal(ended.code, 'network', JSON.stringify(ended));
          assert.match(ended.message, text);
        }
      });
    }

    for (const worker of [true, false]) {
      test(`an abort ends the download of the wasm file, ${worker ? 'in a worker' : 'in the page'}`, async () => {
        let closed;
        const gone = new Promise((resolve) => (closed = resolve));
        let asked;
        const download = new Promise((resolve) => (asked = resolve));
        const served = await site(stalled(/^\/stalled\/.*\.wasm$/, (response) => (response.on('close', closed), asked())));
        try {
          const page = await open(browser, served.url);
          await page.evaluate((worker) => {
            globalThis.stop = new AbortController();
            globalThis.loading = outcome(lib.AimClassifier.fromPretrained('/small/', { wasmUrl: '/stalled/', worker, signal: stop.signal }));
          }, worker);
          await download;
          const ended = await page.evaluate(() => (stop.abort(), loading));
          assert.equal(ended.name, 'AbortError');
          await gone;
          await page.context().close();
        } finally {
          await served.close();
        }
      });
    }

    const runsHere = async () => {
      const aim = await lib.AimClassifier.fromPretrained('/small/', { timeouts: { stall: 2 } });
      return { worker: aim.info.worker, reason: aim.info.reason, labels: (await aim.classify(testCanvas())).length, forced: await outcome(lib.AimClassifier.fromPretrained('/small/', { worker: true, timeouts: { stall: 2 } })) };
    };
    const checkHere = (result) => {
      assert.deepEqual([result.worker, result.labels], [false, 5]);
      assert.match(result.reason, /WebGPU.*in the page's own thread, because .*(not be started|did not start)/);
      assert.equal(result.forced.name, 'AimError', JSON.stringify(result.forced));
    };

    test('a policy that forbids workers: the page itself', async () => {
      const { result } = await visit(runsHere, { headers: { 'content-security-policy': `${CSP}; worker-src 'none'` } });
      checkHere(result);
    });

    test('a worker whose script does not come: the page itself', async () => {
      const { result } = await visit(runsHere, { answer: (url) => url.pathname.endsWith('/dist/worker.js') });
      checkHere(result);
    });

    test('the package from another origin: the page itself', async () => {
      const cdn = await site({ headers: CORS });
      try {
        const { result } = await visit(
          `import('${cdn.url}pkg/dist/index.js').then(async (lib) => {
            globalThis.lib = lib;
            return (${runsHere})();
          })`,
        );
        checkHere(result);
      } finally {
        await cdn.close();
      }
    });

    test('data: URLs that are malformed, and base64 in capitals', async () => {
      const { result } = await visit(async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        const url = testCanvas().toDataURL();
        const right = await aim.logits(url);
        const same = [];
        for (const other of [url.replace('base64', 'BASE64'), url.replace(',', ',%20')]) same.push(difference(await aim.logits(other), right));
        const bad = [];
        for (const url of ['data:image/png;base64,!', 'data:image/png', 'data:image/png,%']) bad.push(await outcome(aim.classify(url)));
        return { same, bad };
      });
      assert.deepEqual(result.same, [0, 0]);
      for (const ended of result.bad) assert.equal(ended.code, 'image', JSON.stringify(ended));
    });

    test('the cache is listed and emptied without wasm, before, beside and after a classifier', async () => {
      const { result, log } = await visit(async () => {
        const before = await lib.listCached();
        const requests = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/wasm/')).length;
        const aim = await lib.AimClassifier.fromPretrained('/small/', { worker: true });
        const ending = lib.listCached();
        await aim.dispose();
        const [one] = await ending;
        await lib.deleteCached('/small/');
        return { before, requests, one, after: await lib.listCached(), small: SMALL.replace(/\/$/, '') };
      });
      assert.deepEqual([result.before, result.requests, result.after], [[], 0, []]);
      assert.equal(result.one.model, result.small);
      assert.ok(result.one.bytes > 10_000);
      assert.equal(log.filter((path) => path.endsWith('_bg.wasm')).length, 1);
    });

    for (const worker of [true, false]) {
      test(`dispose ends what runs at once, ${worker ? 'in a worker' : 'in the page'}; a frame is given up while it waits`, async () => {
        const { result } = await visit(
          async (worker) => {
            const aim = await lib.AimClassifier.fromPretrained('/small/', { worker });
            const canvas = testCanvas();
            const stop = new AbortController();
            const frames = [aim.classifyForVideo(canvas, 1), aim.classifyForVideo(canvas, 2, { signal: stop.signal })].map(outcome);
            stop.abort();
            const given = (await frames[1]).name;
            const image = new Image();
            image.src = '/never.png';
            const calls = [aim.classify(canvas), aim.logits([canvas, canvas]), aim.features(canvas), aim.classify('/never.jpg'), aim.classify(image), aim.classifyForVideo(canvas)];
            let disposed = false;
            const ends = calls.map(async (call) => ({ ...(await outcome(call)), disposed }));
            // Some are taken by then; in the page itself they may be done.
            await new Promise((resolve) => setTimeout(resolve));
            disposed = true;
            await Promise.all([aim.dispose(), aim.dispose()]);
            return { given, ends: await Promise.all(ends) };
          },
          { argument: worker, answer: (url) => url.pathname.startsWith('/never') },
        );
        assert.equal(result.given, 'AbortError');
        for (const { ok, code, disposed } of result.ends) assert.equal(code, disposed ? 'disposed' : undefined, String(ok));
        // What never comes is among them.
        assert.ok(result.ends.filter(({ disposed }) => disposed).length >= 2);
      });
    }

    test("a policy without 'wasm-unsafe-eval' is told as such, whatever the browser's words", async () => {
      for (const [type, worker] of [['application/wasm', false], ['application/octet-stream', false], ['application/wasm', true]]) {
        const { result } = await visit((worker) => outcome(lib.AimClassifier.fromPretrained('/small/', { worker })), {
          argument: worker,
          headers: { 'content-security-policy': "default-src 'self'" },
          // Some hosts don't know the type.
          answer: (url, _request, response) =>
            type !== 'application/wasm' && url.pathname.endsWith('.wasm') && (response.writeHead(200, { 'content-type': type }).end(readFileSync(PACKAGE + url.pathname.slice('/pkg/'.length))), true),
        });
        assert.equal(result.code, 'unsupported', JSON.stringify(result));
        assert.match(result.message, /wasm-unsafe-eval/);
      }
    });

    test('a token goes to the endpoint it was named for, and to no other server', async () => {
      const told = {};
      const answer = (url, request) => {
        if (/config\.json$|\/api\//.test(url.pathname)) told[url.pathname] = request.headers.authorization;
        return false;
      };
      await visit(async () => {
        await (await lib.AimClassifier.fromPretrained('/small/', { token: 'secret' })).dispose();
        await outcome(lib.AimClassifier.fromPretrained('user/repo', { token: 'secret', endpoint: location.origin }));
      }, { answer });
      assert.equal(told['/small/config.json'], undefined);
      assert.ok('/small/config.json' in told);
      const hub = Object.entries(told).filter(([path]) => path.includes('user/repo'));
      assert.ok(hub.length > 0 && hub.every(([, header]) => header === 'Bearer secret'), JSON.stringify(told));
    });

    test('a token does not follow a head of its endpoint to a trunk on another server', async () => {
      const asked = [];
      const other = await site({
        headers: { ...CORS, 'access-control-allow-headers': 'authorization, range, if-range', 'access-control-expose-headers': 'content-range, etag' },
        answer(url, { method, headers }, response) {
          asked.push({ path: url.pathname, sent: headers.authorization, wanted: headers['access-control-request-headers'] });
          return method === 'OPTIONS' && (response.writeHead(204).end(), true);
        },
      });
      const folder = mkdtempSync(join(tmpdir(), 'aim-web-head-'));
      try {
        const { result: bytes } = await visit(
          async (trunk) => {
            const aim = await lib.AimClassifier.fromPretrained(trunk);
            const lesson = aim.teach({ head: 'mean' });
            await lesson.add('wide', [testCanvas(160, 90), testCanvas(150, 80)]);
            await lesson.add('high', [testCanvas(90, 160), testCanvas(80, 150)]);
            await lesson.train();
            const file = await lesson.export();
            await aim.dispose();
            return [...new Uint8Array(await file.arrayBuffer())];
          },
          { argument: `${other.url}small/` },
        );
        const head = Buffer.from(bytes);
        const { __metadata__: metadata } = JSON.parse(head.subarray(8, 8 + Number(head.readBigUInt64LE(0))).toString());
        assert.equal(JSON.parse(metadata['aim.config']).trunk.name, `${other.url}small/`);
        const files = { 'config.json': metadata['aim.config'], 'labels.json': metadata['aim.labels'], 'head.safetensors': head };
        writeFiles(folder, files);

        // The same head in a repository of the hub that is asked with the token.
        asked.length = 0;
        const told = {};
        const commit = '0123456789'.repeat(4);
        const { result } = await visit(
          async () => {
            const aim = await lib.AimClassifier.fromPretrained('user/repo', { token: 'secret', endpoint: location.origin });
            const { labels } = aim;
            await aim.dispose();
            return labels;
          },
          {
            mounts: { [`/user/repo/resolve/${commit}/`]: `${folder}/` },
            answer(url, request, response) {
              if (url.pathname.includes('user/repo')) told[url.pathname.split('/').at(-1)] = request.headers.authorization;
              if (!url.pathname.startsWith('/api/models/user/repo/revision/main')) return false;
              const siblings = Object.entries(files).map(([rfilename, content]) => ({ rfilename, size: Buffer.byteLength(content) }));
              response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ sha: commit, siblings }));
              return true;
            },
          },
        );
        assert.deepEqual(result, ['wide', 'high']);
        assert.deepEqual([told['config.json'], told['head.safetensors']], ['Bearer secret', 'Bearer secret'], JSON.stringify(told));
        // Nor is a browser asked whether it may be sent there.
        assert.ok(asked.some(({ path }) => path === '/small/model.safetensors'));
        assert.deepEqual(asked.filter(({ sent, wanted }) => sent !== undefined || /authorization/i.test(wanted ?? '')), []);
      } finally {
        await other.close();
        rmSync(folder, { recursive: true, force: true });
      }
    });

    test('a compiled module is used for its own build', async () => {
      const { result, log } = await visit(async () => {
        const wasmModule = await WebAssembly.compileStreaming(fetch('/pkg/wasm/cpu/aim_web_bg.wasm'));
        const ends = [];
        for (const worker of [true, false]) {
          const aim = await lib.AimClassifier.fromPretrained('/small/', { wasmModule, worker });
          ends.push((await aim.classify(testCanvas())).length);
          await aim.dispose();
        }
        return ends;
      });
      assert.deepEqual(result, [5, 5]);
      assert.equal(log.filter((path) => path.endsWith('.wasm')).length, 1);
    });

    test('an unknown option names the nearest', async () => {
      const { result } = await visit(async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/');
        return [await outcome(aim.classify(testCanvas(), { topK: 1 })), await outcome(lib.AimClassifier.fromPretrained('/small/', { session_options: {} }))];
      });
      assert.deepEqual(result.map(({ code }) => code), ['option', 'option']);
      assert.match(result[0].message, /'top_k'/);
      assert.match(result[1].message, /transformers\.js/);
    });

    test('100 loads and disposals leave no timer, no listener and no worker', async () => {
      const { result } = await visit(async () => {
        const timers = new Set();
        const listeners = new Map();
        let workers = 0;
        for (const kind of ['Timeout', 'Interval']) {
          const set = globalThis[`set${kind}`];
          const clear = globalThis[`clear${kind}`];
          globalThis[`set${kind}`] = (run, ...rest) => {
            const id = set((...args) => (kind === 'Timeout' && timers.delete(id), run(...args)), ...rest);
            timers.add(id);
            return id;
          };
          globalThis[`clear${kind}`] = (id) => (timers.delete(id), clear(id));
        }
        const counted = (target) => target === window || target === document || target instanceof AbortSignal;
        const { addEventListener, removeEventListener } = EventTarget.prototype;
        const change = (target, by) => counted(target ?? window) && listeners.set(target ?? window, (listeners.get(target ?? window) ?? 0) + by);
        EventTarget.prototype.addEventListener = function (...args) {
          change(this, 1);
          return addEventListener.apply(this ?? window, args);
        };
        EventTarget.prototype.removeEventListener = function (...args) {
          change(this, -1);
          return removeEventListener.apply(this ?? window, args);
        };
        const { terminate } = Worker.prototype;
        globalThis.Worker = class extends Worker {
          constructor(...args) {
            super(...args);
            workers += 1;
          }
        };
        Worker.prototype.terminate = function () {
          workers -= 1;
          return terminate.call(this);
        };
        const { signal } = new AbortController();
        const canvas = testCanvas();
        const seen = [];
        for (let i = 0; i < 100; i++) {
          const aim = await lib.AimClassifier.fromPretrained('/tiny/', { signal, worker: i % 2 === 0, warmup: false });
          const calls = [aim.classify(canvas, { signal }), aim.classifyForVideo(canvas, i, { signal })];
          if (i % 4 < 2) await Promise.all(calls);
          await aim.dispose();
          await Promise.allSettled(calls);
          if (i === 3 || i === 99) {
            await new Promise((resolve) => setTimeout(resolve, 100));
            seen.push({ timers: timers.size, window: listeners.get(window) ?? 0, document: listeners.get(document) ?? 0, signal: listeners.get(signal) ?? 0, workers });
          }
        }
        return seen;
      });
      assert.deepEqual(result[1], result[0]);
      assert.deepEqual({ ...result[1], window: 0 }, { timers: 0, window: 0, document: 0, signal: 0, workers: 0 });
      // Those that hear of traps.
      assert.ok(result[1].window <= 2, `${result[1].window}`);
    });
  });
}

test('a classifier that nobody holds any more lets its worker go', async () => {
  const browser = await launch({ webgpu: 'off', args: ['--js-flags=--expose-gc'] });
  const served = await site();
  try {
    const page = await open(browser, served.url);
    const ended = await page.evaluate(async () => {
      let ended = 0;
      const { terminate } = Worker.prototype;
      Worker.prototype.terminate = function () {
        ended += 1;
        return terminate.call(this);
      };
      await (await lib.AimClassifier.fromPretrained('/small/')).classify(testCanvas());
      for (let i = 0; i < 100 && ended === 0; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return ended;
    });
    assert.equal(ended, 1);
  } finally {
    await browser.close();
    await served.close();
  }
});
