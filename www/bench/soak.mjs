// Keeps the package at work for long in Chromium, under bad conditions, and writes a section of docs/browser.md and a chart:
//   node www/bench/soak.mjs [--output docs/browser.md --svg docs/soak.svg] [--only frames,loads,devices,tabs,quota,network] [--share 1]
//       [--results FILE]
// It needs the built package, on Linux, and an hour; `--share 0.01` is a hundredth of the work. --results keeps what each part
// gave, and takes the parts that are there already: a run that was broken off goes on. Fails if memory grows by more
// than 2% once it has settled, or if anything ends otherwise than it should.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { launch } from '../package/tests/lib/chrome.mjs';
import { loseInWorker, open, site } from '../package/tests/lib/site.mjs';
import { writeZeros } from '../package/tests/lib/small-model.mjs';
import { writeSection } from './section.mjs';
import { soakChart } from './soak-chart.mjs';

/** By how much memory may grow once it has settled. */
const GROWTH = 1.02;
/** Of how many samples a mean is taken. */
const MEAN = 10;
const MIB = 2 ** 20;

const { values } = parseArgs({
  options: {
    output: { type: 'string' },
    svg: { type: 'string' },
    only: { type: 'string', default: 'frames,loads,devices,tabs,quota,network' },
    share: { type: 'string', default: '1' },
    results: { type: 'string' },
  },
});
const share = Number(values.share);
if (!(share > 0 && share < Infinity)) {
  console.error(`--share: ${values.share} is not valid: it must be a number above 0, such as 0.01`);
  process.exit(2);
}
const only = values.only.split(',');
const times = (count) => Math.max(2, Math.round(count * share));

const wide = mkdtempSync(join(tmpdir(), 'aim-web-soak-'));
// 230 MB of weights, more than the quota.
writeZeros(wide, { embed_dim: 2048, img_size: 28, num_blocks: 1, num_heads: 16, probe_layers: [0] });
const served = await site({ mounts: { '/wide/': wide }, answer: loseInWorker });

/** Opens pages of a new browser. */
async function visit(webgpu, work) {
  const browser = await launch({ webgpu, args: ['--js-flags=--expose-gc'] });
  try {
    const session = await browser.newBrowserCDPSession();
    // The memory that is the own of its pages' processes, and of the GPU's: what is shared or read from files is the system's.
    const memory = async (page) => {
      // Garbage is none of it. What one collection frees may let the next free more.
      for (let i = 0; i < 3; i++) {
        await page.evaluate(() => gc());
        // One that is about to end may be gone before it answers.
        for (const worker of page.workers()) await worker.evaluate(() => gc()).catch(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const { processInfo } = await session.send('SystemInfo.getProcessInfo');
      const own = { renderer: 0, GPU: 0 };
      for (const { type, id } of processInfo) {
        if (!(type in own)) continue;
        const [, kilobytes] = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'));
        own[type] += (kilobytes * 1024) / MIB;
      }
      return [own.renderer, own.GPU];
    };
    return await work({ page: () => open(browser, served.url), browser, memory });
  } finally {
    await browser.close();
  }
}

/** Does something many times and looks at the memory so often. */
async function watched({ count, every, settled, webgpu, begin, step, expected = /^$/ }) {
  return visit(webgpu, async ({ page: opened, memory }) => {
    const page = await opened();
    page.setDefaultTimeout(0);
    await page.evaluate(begin);
    const samples = [];
    const wrong = [];
    for (let done = 0; done < count; ) {
      const now = Math.min(every, count - done);
      wrong.push(...(await page.evaluate(step, [done, now])));
      done += now;
      samples.push([done, ...(await memory(page))]);
    }
    wrong.push(...page.problems.filter((problem) => !expected.test(problem)));
    const later = samples.filter(([done]) => done > settled);
    const mean = (some, which) => some.reduce((sum, sample) => sum + sample[which], 0) / some.length;
    const grown = [1, 2].map((which) => [mean(later.slice(0, MEAN), which), mean(later.slice(-MEAN), which)]);
    return { count, samples, grown, wrong };
  });
}

const STAGES = {
  /** A video of many frames. */
  frames: () =>
    watched({
      count: times(10_000),
      every: Math.max(1, Math.round(50 * share)),
      settled: 500 * share,
      webgpu: 'off',
      begin: async () => {
        globalThis.aim = await lib.AimClassifier.fromPretrained();
        globalThis.canvas = testCanvas(640, 480);
        globalThis.expected = (await aim.classify(canvas))[0].label;
      },
      step: async ([from, count]) => {
        const wrong = [];
        for (let i = from; i < from + count; i++) {
          const [best] = await aim.classifyForVideo(canvas, i);
          if (best.label !== expected) wrong.push(`frame ${i}: ${best.label}`);
        }
        return wrong;
      },
    }),

  /** Classifiers that come and go. */
  loads: () =>
    watched({
      count: times(200),
      every: Math.max(1, Math.round(4 * share)),
      settled: 40 * share,
      webgpu: 'off',
      begin: async () => {
        globalThis.canvas = testCanvas(640, 480);
        const aim = await lib.AimClassifier.fromPretrained();
        globalThis.expected = (await aim.classify(canvas))[0].label;
        await aim.dispose();
      },
      step: async ([from, count]) => {
        const wrong = [];
        for (let i = from; i < from + count; i++) {
          const aim = await lib.AimClassifier.fromPretrained();
          const [best] = await aim.classify(canvas);
          if (best.label !== expected) wrong.push(`load ${i}: ${best.label}`);
          await aim.dispose();
        }
        return wrong;
      },
    }),

  /** GPUs that go away in the middle of a request. */
  devices: () =>
    watched({
      count: times(100),
      every: Math.max(1, Math.round(2 * share)),
      settled: 20 * share,
      webgpu: 'software',
      // A read of a GPU that is gone stops an instance, of which the next classifier gets another one.
      expected: /^panicked at/,
      begin: async () => {
        globalThis.canvas = testCanvas();
        const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device: 'wasm' });
        globalThis.right = await aim.logits(canvas);
        await aim.dispose();
      },
      step: async ([from, count]) => {
        const wrong = [];
        const scale = Math.max(...right.map(Math.abs));
        for (let i = from; i < from + count; i++) {
          const aim = await lib.AimClassifier.fromPretrained('/tiny/', { device: 'webgpu', warmup: false });
          const request = aim.logits(canvas).then((logits) => (difference(logits, right) / scale < 1e-4 ? '' : 'wrong'), (error) => (error.code === 'device_lost' ? '' : String(error)));
          await loseDevice();
          const ended = await request;
          const after = difference(await aim.logits(canvas), right) / scale;
          if (ended || !(after < 1e-4)) wrong.push(`device ${i}: ${ended}, ${after} afterwards`);
          await aim.dispose();
        }
        return wrong;
      },
    }),

  /** Two tabs that load into one cache, and empty it, at once. */
  tabs: () =>
    visit('off', async ({ browser }) => {
      const context = await browser.newContext();
      const pages = [];
      for (let i = 0; i < 2; i++) {
        const page = await context.newPage();
        page.setDefaultTimeout(0);
        await page.goto(`${served.url}index.html`);
        await page.waitForFunction(() => globalThis.ready);
        pages.push(page);
      }
      const count = times(100);
      const wrong = [];
      for (let i = 0; i < count; i++) {
        const all = await Promise.all(
          pages.map((page, tab) =>
            page.evaluate(
              async (empties) => {
                const aim = await lib.AimClassifier.fromPretrained('/small/');
                const logits = [...(await aim.logits(testCanvas()))];
                await aim.dispose();
                if (empties) await lib.deleteCached();
                return logits;
              },
              i % 4 === tab,
            ),
          ),
        );
        if (JSON.stringify(all[0]) !== JSON.stringify(all[1])) wrong.push(`round ${i}: the tabs differ`);
      }
      return { count, wrong };
    }),

  /** A model that is larger than what the browser lets the page keep. */
  quota: () =>
    visit('off', async ({ page: opened }) => {
      const page = await opened();
      page.setDefaultTimeout(0);
      const session = await page.context().newCDPSession(page);
      await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(served.url).origin, quotaSize: 50e6 });
      const count = times(10);
      const wrong = [];
      for (let i = 0; i < count; i++) {
        const { labels, kept } = await page.evaluate(async () => {
          const aim = await lib.AimClassifier.fromPretrained('/wide/', { dtype: 'q8', warmup: false });
          const labels = (await aim.classify(testCanvas())).length;
          await aim.dispose();
          return { labels, kept: (await navigator.storage.estimate()).usage };
        });
        if (labels !== 5 || kept > 50e6) wrong.push(`load ${i}: ${labels} labels, ${kept} bytes are kept`);
      }
      return { count, wrong: [...wrong, ...page.problems.filter((problem) => !/quota/i.test(problem))] };
    }),

  /** A network that goes and comes back whenever it likes. */
  network: () =>
    visit('off', async ({ page: opened }) => {
      const page = await opened();
      page.setDefaultTimeout(0);
      const right = await page.evaluate(async () => {
        const aim = await lib.AimClassifier.fromPretrained('/small/', { cache: false });
        globalThis.right = [...(await aim.logits(testCanvas()))];
        await aim.dispose();
        return right.length;
      });
      const count = times(200);
      const wrong = right > 0 ? [] : ['no logits'];
      let failed = 0;
      let over = false;
      const weather = (async () => {
        while (!over) {
          await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 300));
          await page.context().setOffline(Math.random() < 0.5);
        }
        await page.context().setOffline(false);
      })();
      try {
        for (let i = 0; i < count; i++) {
          const ended = await page.evaluate(
            async (cache) => {
              try {
                const aim = await lib.AimClassifier.fromPretrained('/small/', { cache, timeouts: { stall: 2, longestWait: 1 } });
                const same = difference(await aim.logits(testCanvas()), right) === 0;
                await aim.dispose();
                return same ? 'right' : 'wrong logits';
              } catch (error) {
                return error instanceof lib.AimError ? error.code : String(error);
              }
            },
            i % 2 === 0,
          );
          if (ended === 'network') failed += 1;
          else if (ended !== 'right') wrong.push(`load ${i}: ${ended}`);
        }
      } finally {
        over = true;
        await weather;
      }
      const last = await page.evaluate(async () => difference(await (await lib.AimClassifier.fromPretrained('/small/')).logits(testCanvas()), right));
      if (last !== 0) wrong.push(`afterwards it is off by ${last}`);
      return { count, wrong, note: `${failed} loads ended in a network error, the others in the right logits` };
    }),
};

const WHAT = {
  frames: 'frames of 640 x 480, the embedded model',
  loads: 'loads and disposals of the embedded model',
  devices: 'GPUs lost in mid-request (SwiftShader)',
  tabs: 'loads in each of two tabs on one cache, which each empties now and then',
  quota: 'loads of 230 MB with a quota of 50 MB',
  network: 'loads while the network goes and comes back',
};

/** By a part's name what it gave. */
const results = values.results && existsSync(values.results) ? JSON.parse(readFileSync(values.results, 'utf8')) : {};
const rows = [];
const curves = [];
let failed = false;
try {
  for (const name of only) {
    if (!STAGES[name]) throw new Error(`--only: ${name} is none of ${Object.keys(STAGES)}`);
    if (!results[name]) {
      console.error(`${name} ...`);
      const begun = Date.now();
      const result = await STAGES[name]();
      results[name] = { ...result, seconds: Math.round((Date.now() - begun) / 1000) };
      if (values.results) writeFileSync(values.results, JSON.stringify(results));
    }
    const { count, samples, grown = [], wrong, note, seconds } = results[name];
    const hasGrown = grown.some(([first, last]) => last > first * GROWTH);
    failed ||= wrong.length > 0 || hasGrown;
    const [page = '', gpu = ''] = grown.map(([first, last]) => `${first.toFixed(1)} to ${last.toFixed(1)}, ${(100 * (last / first - 1)).toFixed(1)}%`);
    rows.push(`| ${count} ${WHAT[name]} | ${seconds} | ${page} | ${gpu} | ${[wrong.length === 0 && !hasGrown ? 'nothing' : '', wrong.length > 0 ? wrong.length : '', hasGrown ? `memory grew by over ${Math.round(100 * (GROWTH - 1))}%` : '', note ?? ''].filter(Boolean).join('; ')} |`);
    console.error(rows.at(-1));
    for (const line of wrong.slice(0, 10)) console.error(`  ${line}`);
    if (samples) curves.push({ title: `${count} ${WHAT[name]}`, samples, grown });
  }
} finally {
  await served.close();
  rmSync(wide, { recursive: true, force: true });
}

if (values.svg) writeFileSync(values.svg, soakChart(curves));
if (values.output) {
  writeSection(
    values.output,
    'At work for long',
    `\`node www/bench/soak.mjs --output docs/browser.md --svg docs/soak.svg\` writes this section. Memory is what the processes of pages and of the
GPU have for themselves, after garbage is collected: the mean of ${MEAN} samples once it has settled, and of the last ${MEAN}.

| what | s | pages, MiB | GPU's process, MiB | went wrong |
|---|---|---|---|---|
${rows.join('\n')}

![Memory](soak.svg)`,
  );
}
process.exitCode = failed ? 1 : 0;
