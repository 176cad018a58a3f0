// The page in Firefox, where that is installed: pictures get their names, and it learns two classes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { FIREFOX, launchFirefox } from '../lib/firefox.mjs';
import { DEMO, listen, photograph, site } from '../lib/site.mjs';

const PATH = 'some/where/';

describe('the page in Firefox', { skip: FIREFOX ? false : 'Firefox is not installed' }, () => {
  let served;
  let browser;
  let page;

  before(async () => {
    served = await site({ mounts: { [`/${PATH}`]: `${DEMO}dist/` } });
    browser = await launchFirefox();
    page = listen(await (await browser.newContext()).newPage());
    await page.goto(served.url + PATH);
    await page.waitForFunction(() => document.body.dataset.ready, undefined, { timeout: 90_000 });
    // What files are chosen or dropped by a person.
    await page.evaluate(() => {
      globalThis.files = (all) => {
        const transfer = new DataTransfer();
        for (const [name, base64] of all) transfer.items.add(new File([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))], name, { type: 'image/jpeg' }));
        return transfer;
      };
      globalThis.choose = (input, all) => {
        input.files = files(all).files;
        input.dispatchEvent(new Event('change', { bubbles: true }));
      };
    });
  });
  after(async () => {
    await browser?.close();
    await served?.close();
  });

  const bytes = (label) => readFileSync(photograph(label)).toString('base64');
  const shows = (label) => page.waitForFunction((label) => document.getElementById('best').dataset.label === label, label, { timeout: 60_000 });

  test('samples are named', async () => {
    for (const label of ['2', 'dress', 'shoes']) {
      await page.evaluate((label) => document.querySelector(`[data-sample$="/${label}.jpg"]`).click(), label);
      await shows(label);
    }
    assert.equal(await page.evaluate(() => document.querySelectorAll('#bars li').length), 5);
    assert.match(await page.evaluate(() => document.getElementById('ms').textContent), /^\d/);
    assert.deepEqual(page.problems, []);
  });

  test('a picture that is chosen, one that is dropped, and a file that is none', async () => {
    await page.evaluate((all) => choose(document.getElementById('file'), all), [['hand.jpg', bytes('5')]]);
    await shows('5');
    await page.evaluate((all) => {
      for (const type of ['dragenter', 'dragover', 'drop']) document.getElementById('stage').dispatchEvent(new DragEvent(type, { dataTransfer: files(all), bubbles: true, cancelable: true }));
    }, [['hand.jpg', bytes('7')]]);
    await shows('7');
    await page.evaluate((all) => choose(document.getElementById('file'), all), [['no.jpg', btoa('no picture')]]);
    await page.waitForFunction(() => /not a picture this browser can read/.test(document.querySelector('[data-key=picture]')?.textContent ?? ''));
  });

  test('two classes of pictures are learnt, and others get their names', async () => {
    await page.evaluate(() => document.getElementById('tab-teach').click());
    for (const [name, labels] of [['Class 1', ['0', '2', '5', '8']], ['Class 2', ['dress', 'shoes', 'pants', 'shirt']]]) {
      await page.evaluate(([name, all]) => choose(document.querySelector(`[data-class="${name}"] [data-part=files]`), all), [name, labels.map((label) => [`${label}.jpg`, bytes(label)])]);
      await page.waitForFunction((name) => /^4 /.test(document.querySelector(`[data-class="${name}"] [data-part=count]`).textContent), name, { timeout: 60_000 });
    }
    await page.evaluate(() => document.getElementById('train').click());
    await page.waitForFunction(() => document.getElementById('score').textContent !== '', undefined, { timeout: 60_000 });
    for (const [label, expected] of [['7', 'Class 1'], ['t-shirt', 'Class 2']]) {
      await page.evaluate((all) => choose(document.getElementById('file'), all), [[`${label}.jpg`, bytes(label)]]);
      await shows(expected);
    }
    assert.deepEqual(page.problems, []);
  });
});
