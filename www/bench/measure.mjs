// Measures the built package in Chromium and writes a section of a page:
//   node www/bench/measure.mjs [--output docs/browser.md] [--runs 5] [--frames 30] [--model URL] [--dtype auto] [--devices wasm,threads,webgpu]
//       [--batch 1,4] [--seconds 2] [--json FILE]
// `wasm` is the CPU on one thread, `threads` on all. WebGPU is measured on the graphics card if Chromium has one, else
// on its software adapter, which takes many seconds a frame: there one visit and two frames have to do, and three batches
// of each size. --json writes what the last visit of each device measured of batches, as `aim-bench bench --json` does.
// Nothing is written on a busy machine.
import { readFileSync, writeFileSync } from 'node:fs';
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
    batch: { type: 'string', default: '1,4' },
    seconds: { type: 'string', default: '2' },
    json: { type: 'string' },
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
async function visit(device, webgpu, frames, batches = {}) {
  const before = served.sent();
  const browser = await launch({ webgpu });
  try {
    const page = await browser.newPage();
    const where = device === 'threads' ? { device: 'wasm' } : { device, threads: 1 };
    const query = new URLSearchParams({ ...where, dtype: values.dtype, frames, ...batches, ...(values.model ? { model: values.model } : {}) });
    await page.goto(`${served.url}page/?${query}`);
    await page.waitForFunction(() => globalThis.result, null, { timeout: 600_000 });
    return { ...(await page.evaluate(() => globalThis.result)), bytes: served.sent() - before };
  } finally {
    await browser.close();
  }
}

const rows = [];
const measured = [];
let failed = false;
for (const device of values.devices.split(',')) {
  const software = device === 'webgpu' && !(await hasCard(`${served.url}picture.jpg`));
  const [runs, frames] = software ? [1, 2] : [Number(values.runs), Number(values.frames)];
  const results = [];
  for (let i = 1; i <= runs; i++) {
    const batches = i === runs ? { batch: values.batch, seconds: software ? '0' : values.seconds } : {};
    results.push(await visit(device, device !== 'webgpu' ? 'off' : software ? 'software' : 'hardware', frames, batches));
  }
  const broken = results.find(({ error }) => error);
  if (broken) {
    failed = true;
    rows.push(`| ${device} | ${broken.error.replaceAll('|', '/')} | | | | | | | | | |`);
    continue;
  }
  measured.push(...results.at(-1).measured);
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
const three = (value) => (value === null ? '' : String(Number(value.toPrecision(3))));
const megabytes = (bytes) => (bytes === null ? '' : Math.round(bytes / 1e6));
const batches = `
The last of the same visits, then batches by \`aim.measure()\`: from the call with pixels of 256 x 256 to the logits, median and spread.
The peak is the fastest product of large matrices on the same device (\`src/device/peak.rs\`). The columns are those of
\`aim-bench bench\`; [performance.md](performance.md#what-bench-measures) says what they mean.

| device | adapter | dtype | threads | batch | ms an image | lowest to highest | images/s | TFLOP/s | of peak | load, s | host, MB | GPU, MB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
${measured.map((row) => `| ${row.device} | ${row.adapter} | ${row.dtype} | ${row.threads ?? ''} | ${row.batch} | ${three(row.ms_per_image)} | ${three(row.ms_lowest)} to ${three(row.ms_highest)} | ${three(row.images_per_second)} | ${three(row.tflops)} | ${row.peak_share === null ? '' : `${Math.round(100 * row.peak_share)}%`} | ${three(row.load_s)} | ${megabytes(row.peak_host_bytes)} | ${megabytes(row.peak_device_bytes)} |`).join('\n')}
`;
if (values.json) writeFileSync(values.json, `${JSON.stringify(measured, undefined, 1)}\n`);
if (values.output) {
  writeSection(values.output, 'Time to a label', text);
  writeSection(values.output, 'Batches', batches);
}
console.log(text + batches);
process.exit(failed ? 1 : 0);
