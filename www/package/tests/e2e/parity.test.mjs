// The page and aim-bench, the program, agree: the same label and nearly the same scores, on the CPU and on WebGPU.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { AIM_BENCH, DEMO, photograph, photographs, site } from '../lib/site.mjs';

let served;
before(async () => {
  execFileSync(process.execPath, [`${DEMO}build.mjs`], { stdio: 'pipe' });
  served = await site({ mounts: { '/demo/': `${DEMO}dist/` } });
});
after(() => served?.close());

/**
 * By how much scores may differ. Floats are compared with floats. In whole numbers activations are rounded to 8 or to 16 bits, as
 * the instructions of the processor want it, which may differ between a browser and the program.
 */
const MOST = { fp32: 1e-3, auto: 5e-3 };

/** What aim-bench says of each file: all classes, best first. */
function program(files, dtype) {
  return JSON.parse(execFileSync(AIM_BENCH, ['classify', '--json', '--device', 'cpu', '--dtype', dtype, '--top-k', '1000', ...files], { encoding: 'utf8' }));
}

/** Drops each file on the page and compares what it says. */
async function compare({ device, page: held = 'auto', program: dtype }, files) {
  const browser = await launch({ webgpu: device === 'webgpu' ? 'software' : 'off' });
  try {
    const page = await browser.newPage();
    await page.goto(`${served.url}demo/?device=${device}&dtype=${held}`);
    await page.waitForFunction(() => document.body.dataset.ready || document.querySelector('[data-key=model]'), null, { timeout: 600_000 });
    assert.equal(await page.evaluate(() => globalThis.aimDemo.aim?.device ?? document.getElementById('notices').innerText), device);
    for (const { image, predictions } of program(files, dtype)) {
      const base64 = readFileSync(image).toString('base64');
      await page.evaluate((base64) => {
        delete document.getElementById('best').dataset.label;
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))], 'photo.jpg', { type: 'image/jpeg' }));
        for (const type of ['dragenter', 'dragover', 'drop']) document.getElementById('stage').dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
      }, base64);
      const shown = await page.waitForFunction(() => document.getElementById('best').dataset.label, null, { timeout: 300_000 });
      assert.equal(await shown.jsonValue(), predictions[0].label, image);
      // The page shows whole percents; what it rounds comes from the same call.
      const scores = await page.evaluate(async (base64) => {
        const blob = new Blob([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))]);
        return globalThis.aimDemo.aim.classify(blob, { top_k: 1000 });
      }, base64);
      assert.equal(scores.length, predictions.length);
      for (const { label, score, index } of scores) {
        const ours = predictions.find((prediction) => prediction.index === index);
        assert.equal(ours.label, label);
        assert.ok(Math.abs(ours.score - score) <= MOST[dtype], `${image}: ${label} is ${score} on the page, ${ours.score} in the program`);
      }
    }
  } finally {
    await browser.close();
  }
}

const files = () => photographs().map(({ file }) => file);

test('on the CPU, as the model is stored: every test photograph', () => compare({ device: 'wasm', program: 'auto' }, files()));

test('on the CPU, in floats: every test photograph', () => compare({ device: 'wasm', page: 'fp32', program: 'fp32' }, files()));

// A software adapter takes many seconds for the embedded model, so one hand and no more. There products are of floats anyway.
test('on WebGPU: one', () => compare({ device: 'webgpu', program: 'fp32' }, [photograph('5')]));
