// Measures the built package in Chromium and prints a Markdown table:
//   node www/bench/measure.mjs [--runs 5] [--frames 30] [--model URL] [--dtype auto] [--devices wasm,webgpu]
// WebGPU is measured on what Chromium has: a graphics card, or, with --software, its software adapter.
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { launch } from '../package/tests/lib/chrome.mjs';
import { serve } from '../package/tests/lib/server.mjs';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    frames: { type: 'string', default: '30' },
    model: { type: 'string' },
    dtype: { type: 'string', default: 'auto' },
    devices: { type: 'string', default: 'wasm,webgpu' },
    software: { type: 'boolean', default: false },
  },
});

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const SAMPLE = at('../demo/src/samples/');
const served = await serve({ '/page/': at('page/'), '/package/': at('../package/'), '/': SAMPLE }, {
  // One address for the picture, so that the page does not know the samples.
  answer: (url, _request, response) => url.pathname === '/picture.jpg' && (response.writeHead(302, { location: '/hand-5.jpg' }).end(), true),
});

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** One cold visit: a new browser has nothing in any cache. */
async function visit(device) {
  const before = served.sent();
  const browser = await launch({ webgpu: device === 'wasm' ? 'off' : values.software ? 'software' : 'hardware' });
  try {
    const page = await browser.newPage();
    const query = new URLSearchParams({ device, dtype: values.dtype, frames: values.frames, ...(values.model ? { model: values.model } : {}) });
    await page.goto(`${served.url}page/?${query}`);
    await page.waitForFunction(() => globalThis.result, null, { timeout: 600_000 });
    return { ...(await page.evaluate(() => globalThis.result)), bytes: served.sent() - before };
  } finally {
    await browser.close();
  }
}

console.log(`Processor: ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads. Medians of ${values.runs} cold visits, ${values.frames} frames of 640 x 480 each.\n`);
console.log('| device | build | adapter | dtype | label | fetched MB, not compressed | navigation to first label, s | load, ms | warm-up, ms | ms a frame |');
console.log('|---|---|---|---|---|---|---|---|---|---|');
let failed = false;
for (const device of values.devices.split(',')) {
  const results = [];
  for (let i = 0; i < Number(values.runs); i++) results.push(await visit(device));
  const broken = results.find(({ error }) => error);
  if (broken) {
    failed = true;
    console.log(`| ${device} | ${broken.error.replaceAll('|', '/')} | | | | | | | | |`);
    continue;
  }
  const { info, label, bytes } = results[0];
  const of = (pick) => median(results.map(pick));
  console.log(`| ${device} | ${info.build} | ${info.adapter} | ${info.dtype} | ${label} | ${(bytes / 1e6).toFixed(1)} | ${(of((result) => result.firstLabel) / 1000).toFixed(2)} | ${Math.round(of((result) => result.info.loadMs))} | ${Math.round(of((result) => result.info.warmupMs))} | ${of((result) => median(result.frames)).toFixed(1)} |`);
}
await served.close();
process.exit(failed ? 1 : 0);
