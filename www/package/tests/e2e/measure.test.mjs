// The page's button that measures this device. Nothing here is about how long it takes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { DEMO, listen, site } from '../lib/site.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let served;
let browser;

before(async () => {
  served = await site({ mounts: { '/demo/': `${DEMO}dist/` } });
  browser = await launch({ webgpu: 'off' });
});
after(async () => {
  await browser?.close();
  await served?.close();
});

async function visit(context = {}) {
  const page = listen(await (await browser.newContext(context)).newPage());
  page.setDefaultTimeout(120_000);
  await page.goto(`${served.url}demo/`);
  await page.waitForFunction(() => document.body.dataset.ready);
  return page;
}

const state = (page, text) => page.waitForFunction((text) => new RegExp(text).test(document.getElementById('measure-state').textContent), text);

test('measured, shown, copied; what was copied is what aim-bench would say', async () => {
  const page = await visit({ permissions: ['clipboard-read', 'clipboard-write'], viewport: { width: 320, height: 800 } });
  await page.click('#measure');
  assert.equal(await page.isDisabled('#measure'), true);
  await state(page, '^CPU, .*Medians');
  assert.equal(await page.locator('#measured-rows tr').count(), 2);
  await page.click('#measure-copy');
  await state(page, 'Copied');
  const { measured, userAgent } = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  assert.match(userAgent, /Chrome/);
  assert.deepEqual(measured.map(({ device, batch }) => [device, batch]), [['wasm', 1], ['wasm', 4]]);
  for (const row of measured) {
    for (const field of ['adapter', 'dtype', 'ms_per_image', 'images_per_second', 'tflops', 'peak_share', 'load_s', 'peak_host_bytes']) assert.ok(row[field], `${field} of ${JSON.stringify(row)}`);
    // Products of large matrices have no norms, no softmax and no pictures between them.
    assert.ok(row.peak_share > 0.01 && row.peak_share < 1.5, `${row.peak_share} of the peak`);
    assert.equal(row.peak_device_bytes, null);
  }
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, 'the table scrolls, not the page');
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('where the page may not copy, the text is there to be copied', async () => {
  const page = await visit();
  await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: { writeText: () => Promise.reject(new Error('no')) } }));
  await page.click('#measure');
  await state(page, 'Medians');
  await page.click('#measure-copy');
  const text = await page.inputValue('#measure-text');
  assert.equal(JSON.parse(text).measured.length, 2);
  const selected = await page.evaluate(() => [document.activeElement.id, document.activeElement.selectionEnd]);
  assert.deepEqual(selected, ['measure-text', text.length]);
  await page.context().close();
});

test('it can be stopped, and the model goes on', async () => {
  const page = await visit();
  await page.click('#measure');
  await page.click('#measure-stop');
  await state(page, 'Stopped');
  assert.equal(await page.isDisabled('#measure'), false);
  assert.equal(await page.isVisible('#measure-copy'), false);
  await page.click('[data-sample$="/5.jpg"]');
  await page.waitForFunction(() => document.getElementById('best').dataset.label === '5');
  await page.context().close();
});
