// The CPU build with threads, in a page that its headers isolate from other origins.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { ISOLATED } from '../lib/server.mjs';
import { PACKAGE, open, site } from '../lib/site.mjs';

const THREADS = Math.min(8, availableParallelism());

let browser;
before(async () => void (browser = await launch({ webgpu: 'off' })));
after(() => browser?.close());

/** Runs `body` in a page of a fresh site; of paths in `missing` there is nothing. */
async function visit(body, { headers = ISOLATED, missing = [], answer: other } = {}) {
  const answer = (url, request, response) => (missing.some((path) => url.pathname.endsWith(path)) && (response.writeHead(404).end(), true)) || other?.(url, request, response);
  const served = await site({ headers, answer });
  try {
    const page = await open(browser, served.url);
    const result = await page.evaluate(body);
    await page.context().close();
    return { result, log: served.log, problems: page.problems };
  } finally {
    await served.close();
  }
}

/** A load and what it ran on. */
const loads = async () => {
  globalThis.run = async (options) => {
    const aim = await lib.AimClassifier.fromPretrained('/small/', { dtype: 'q8', ...options });
    const { build, threads, reason } = aim.info;
    const logits = await aim.logits(testCanvas());
    await aim.dispose();
    return { build, threads, reason, logits };
  };
};

test('an isolated page: as many threads as the processor has, the same logits as on one', async () => {
  const { result, log, problems } = await visit(`(${loads})().then(async () => {
    const [many, again, one] = [await run(), await run(), await run({ threads: 1 })];
    return { many, again, one, apart: [difference(many.logits, one.logits), difference(again.logits, one.logits)] };
  })`);
  assert.equal(result.many.threads, THREADS);
  assert.equal(result.many.build, THREADS > 1 ? 'cpu-threads' : 'cpu-relaxed');
  assert.equal(result.again.threads, THREADS);
  assert.deepEqual([result.one.build, result.one.threads], ['cpu-relaxed', 1]);
  for (const apart of result.apart) assert.ok(apart < 1e-5, `the logits differ by ${apart}`);
  assert.equal(log.some((path) => path.startsWith('/pkg/wasm/webgpu')), false);
  assert.deepEqual(problems, []);
});

test('no more threads than the processor has; one without a worker', async () => {
  const { result } = await visit(`(${loads})().then(async () => [await run({ threads: 1000 }), await run({ worker: false })])`);
  assert.deepEqual(result.map(({ threads }) => threads), [THREADS, 1]);
});

test('a page that is not isolated: one thread', async () => {
  const { result } = await visit(`(${loads})().then(() => run({ threads: 2 }))`, { headers: {} });
  assert.deepEqual([result.build, result.threads], ['cpu-relaxed', 1]);
});

test('threads that do not start, or are not served: the build without them takes over', async () => {
  for (const missing of ['/thread.js', '/cpu-threads/aim_web_bg.wasm']) {
    const { result } = await visit(`(${loads})().then(() => run())`, { missing: [missing] });
    assert.deepEqual([result.build, result.threads], ['cpu-relaxed', 1], missing);
  }
});

describe('a thread of the pool that traps: its worker is blocked and waits for it', { skip: THREADS < 2 && 'one core' }, () => {
  // In place of serving the pool.
  const trap = "(() => { throw new WebAssembly.RuntimeError('unreachable'); })()";
  const script = readFileSync(`${PACKAGE}dist/thread.js`, 'utf8').replace(/\w+\.serveThread\?\.\(\)/, trap);

  for (const [times, threads] of [
    [1, THREADS],
    [2, 1],
  ]) {
    test(`in ${times} loads: started again on ${threads}`, async () => {
      assert.ok(script.includes(trap));
      let asked = 0;
      const { result } = await visit(`(${loads})().then(() => run())`, {
        answer: (url, _request, response) => url.pathname.endsWith('/dist/thread.js') && asked++ < times * (THREADS - 1) && (response.writeHead(200, { 'content-type': 'text/javascript' }).end(script), true),
      });
      assert.equal(result.threads, threads);
      assert.match(result.reason, /started again after a thread stopped/);
    });
  }

  test('afterwards: calls under way end as device_lost, the next ones are answered', async () => {
    const { result } = await visit(async () => {
      // What a thread would tell.
      const names = [];
      globalThis.BroadcastChannel = class extends BroadcastChannel {
        constructor(name) {
          super(name);
          names.push(name);
        }
      };
      const aim = await lib.AimClassifier.fromPretrained('/small/', { dtype: 'q8' });
      const seen = [];
      const right = await aim.logits(testCanvas());
      for (let i = 0; i < 2; i++) {
        const under = outcome(aim.logits(Array(100).fill(testCanvas())));
        new BroadcastChannel(names.findLast((name) => name.startsWith('aim-web '))).postMessage('RuntimeError: unreachable');
        const lost = await under;
        seen.push({ lost, apart: difference(await aim.logits(testCanvas()), right), threads: aim.info.threads });
      }
      await aim.dispose();
      return seen;
    });
    assert.deepEqual(result.map(({ threads }) => threads), [THREADS, 1]);
    for (const { lost, apart } of result) {
      assert.equal(lost.code, 'device_lost', JSON.stringify(lost));
      assert.match(lost.message, /a thread stopped.*unreachable.*repeat the call/);
      assert.ok(apart < 1e-5, `the logits differ by ${apart}`);
    }
  });
});

test('a defect of the model is told as it is', async () => {
  const { result } = await visit(() => outcome(lib.AimClassifier.fromPretrained('/nowhere/')));
  assert.equal(result.code, 'not_found');
});
