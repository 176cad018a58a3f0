// Loads large models in Chromium and writes a section of docs/browser.md:
//   node www/bench/large.mjs ROOT [--output docs/browser.md] MODEL,DTYPE,DEVICE[,run][,cache][,BLOCK] ...
// ROOT holds models as USER/NAME, which tests/hub serves. `run` classifies a photograph; `cache` keeps the chunks and
// loads a second time from there; a number probes that block, so that none above it is loaded. Fails if the wasm heap
// on WebGPU is over its limit.
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { launchProfile } from '../package/tests/lib/chrome.mjs';
import { hub } from '../package/tests/lib/hub.mjs';
import { serve } from '../package/tests/lib/server.mjs';
import { PACKAGE, PHOTOS, photograph, start } from '../package/tests/lib/site.mjs';
import { idleOrExit } from './idle.mjs';
import { writeSection } from './section.mjs';

/** What the heap of the wasm instance may have on WebGPU, whatever the model. */
const LIMIT = 192 * 2 ** 20;

const { values, positionals } = parseArgs({ options: { output: { type: 'string' } }, allowPositionals: true });
const [root, ...cases] = positionals;
if (!root || cases.length === 0) {
  console.error('usage: node www/bench/large.mjs ROOT [--output FILE] MODEL,DTYPE,DEVICE[,run][,cache][,BLOCK] ...');
  process.exit(2);
}

const busy = await idleOrExit(values.output);
const photo = `/photos/${photograph('5').slice(PHOTOS.length)}`;
const server = await hub(root);
let served;

/** One load in a fresh browser, and another one from its cache. */
async function visit(model, dtype, device, flags) {
  // What is kept has to go to the disk: a window without a profile keeps it in memory, and less.
  const profile = mkdtempSync(join(tmpdir(), 'aim-web-profile-'));
  const { browser, kill } = await launchProfile(profile, { webgpu: device === 'wasm' ? 'off' : 'software' });
  try {
    const page = await start(await browser.contexts()[0].newPage(), served.url);
    page.setDefaultTimeout(0);
    const block = flags.find((flag) => /^\d+$/.test(flag));
    const options = { endpoint: server.endpoint, device, dtype, warmup: false, cache: flags.includes('cache'), ...(block ? { probeLayers: [Number(block)] } : {}) };
    const load = ([model, options, photo]) =>
      (async () => {
        const aim = await lib.AimClassifier.fromPretrained(model, options);
        const start = performance.now();
        const best = photo ? (await aim.classify(photo, { top_k: 1 }))[0] : undefined;
        const ms = performance.now() - start;
        const { info } = aim;
        await aim.dispose();
        return { info, best, ms };
      })();
    const runs = [await page.evaluate(load, [model, options, flags.includes('run') ? photo : undefined])];
    if (flags.includes('cache')) runs.push(await page.evaluate(load, [model, options, flags.includes('run') ? photo : undefined]));
    return runs;
  } finally {
    await kill();
    rmSync(profile, { recursive: true, force: true });
  }
}

const number = (value, digits = 0) => value.toFixed(digits);
const rows = [];
let failed = false;
try {
  served = await serve({ '/': fileURLToPath(new URL('../package/tests/e2e/pages/', import.meta.url)), '/pkg/': PACKAGE, '/photos/': PHOTOS });
  for (const text of cases) {
    const [model, dtype, device, ...flags] = text.split(',');
    const runs = await visit(model, dtype, device, flags);
    for (const { info, best, ms } of runs) {
      const over = device === 'webgpu' && info.wasmBytes > LIMIT;
      failed ||= over;
      rows.push(
        `| ${model} | ${info.dtype} | ${info.build}, ${info.adapter} | ${info.blocks} | ${number(info.bytesFetched / 1e6)} | ${number(info.bytesCached / 1e6)} | ${number(info.loadMs / 1000, 1)} | ${number(info.wasmBytes / 2 ** 20)}${over ? ' (over the limit)' : ''} | ${best ? `${number(ms / 1000, 1)} (${best.label})` : ''} |`,
      );
      console.error(rows.at(-1));
    }
    if (runs[1] && runs[0].best && runs[0].best.score !== runs[1].best.score) {
      failed = true;
      console.error(`${text}: the cache gives another result`);
    }
  }
} finally {
  server.close();
  await served?.close();
}

const table = `
\`node www/bench/large.mjs ROOT --output docs/browser.md ...\` writes this section: models of the released sizes with random
weights (\`aim-bench synth\`, \`convert\`), from a server on the same machine, each in a new Chromium. The heap is all the memory
that the wasm instance ever had; on a GPU it may have ${LIMIT / 2 ** 20} MiB.

Processor: ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads. ${busy}

| model | dtype | build, adapter | blocks | fetched, MB | from the cache, MB | load, s | wasm heap, MiB | a picture, s (label) |
|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
if (values.output) writeSection(values.output, 'Large models', table);
console.log(table);
process.exit(failed ? 1 : 0);
