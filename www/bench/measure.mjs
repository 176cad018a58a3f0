// Measures the built package in Chromium and writes a section of a page:
//   node www/bench/measure.mjs [--output docs/browser.md] [--runs 5] [--frames 30] [--model URL] [--dtype auto] [--devices wasm,threads,webgpu]
// `wasm` is the CPU on one thread, `threads` on all. WebGPU is measured on the graphics card if Chromium has one, else
// on its software adapter, which takes many seconds a frame: there one visit and two frames have to do. Nothing is written on a
// busy machine.
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { hasCard } from './card.mjs';
import { idleOrExit } from './idle.mjs';
import { launch } from '../package/tests/lib/chrome.mjs';
import { ISOLATED, serve } from '../package/tests/lib/server.mjs';
import { photograph } from '../package/tests/lib/site.mjs';
import { writeSection } from './section.mjs';

const { values } = parseArgs({
  options: {
    output: { type: 'string' },
    runs: { type: 'string', default: '5' },
    frames: { type: 'string', default: '30' },
    model: { type: 'string' },
    dtype: { type: 'string', default: 'auto' },
    devices: { type: 'string', default: 'wasm,threads,webgpu' },
  },
});

const busy = await idleOrExit(values.output);
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const served = await serve({ '/page/': at('page/'), '/package/': at('../package/') }, {
  headers: ISOLATED,
  answer: (url, _request, response) => url.pathname === '/picture.jpg' && (response.writeHead(200, { 'content-type': 'image/jpeg' }).end(readFileSync(photograph('5'))), true),
});

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** One cold visit: a new browser has nothing in any cache. */
async function visit(device, webgpu, frames) {
  const before = served.sent();
  const browser = await launch({ webgpu });
  try {
    const page = await browser.newPage();
    const where = device === 'threads' ? { device: 'wasm' } : { device, threads: 1 };
    const query = new URLSearchParams({ ...where, dtype: values.dtype, frames, ...(values.model ? { model: values.model } : {}) });
    await page.goto(`${served.url}page/?${query}`);
    await page.waitForFunction(() => globalThis.result, null, { timeout: 600_000 });
    return { ...(await page.evaluate(() => globalThis.result)), bytes: served.sent() - before };
  } finally {
    await browser.close();
  }
}

const rows = [];
let failed = false;
for (const device of values.devices.split(',')) {
  const software = device === 'webgpu' && !(await hasCard(`${served.url}picture.jpg`));
  const [runs, frames] = software ? [1, 2] : [Number(values.runs), Number(values.frames)];
  const results = [];
  for (let i = 0; i < runs; i++) results.push(await visit(device, device !== 'webgpu' ? 'off' : software ? 'software' : 'hardware', frames));
  const broken = results.find(({ error }) => error);
  if (broken) {
    failed = true;
    rows.push(`| ${device} | ${broken.error.replaceAll('|', '/')} | | | | | | | | | |`);
    continue;
  }
  const { info, label, bytes } = results[0];
  const of = (pick) => median(results.map(pick));
  rows.push(`| ${info.device} | ${info.build} | ${info.adapter} | ${info.device === 'webgpu' ? '' : info.threads} | ${info.dtype} | ${label} | ${(bytes / 1e6).toFixed(1)} | ${(of((result) => result.firstLabel) / 1000).toFixed(2)} | ${Math.round(of((result) => result.info.loadMs))} | ${Math.round(of((result) => result.info.warmupMs))} | ${of((result) => median(result.frames)).toFixed(1)} | ${runs} x ${frames} |`);
}
await served.close();

const text = `
\`node www/bench/measure.mjs --output docs/browser.md\` writes this section. A cold visit is a new Chromium that has nothing in any
cache; the first label is that of a test photograph, by the clock that starts with the navigation; frames are of 640 x 480
pixels, from the call to the labels. Medians over the visits. The server is on the same machine, compresses nothing, and isolates
the page from other origins, so that it may use threads.

Processor: ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads. Model: ${values.model ?? 'the embedded one'}.
${busy}

| device | build | adapter | threads | dtype | label | fetched, MB | navigation to first label, s | load, ms | warm-up, ms | a frame, ms | visits x frames |
|---|---|---|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
if (values.output) writeSection(values.output, 'Time to a label', text);
console.log(text);
process.exit(failed ? 1 : 0);
