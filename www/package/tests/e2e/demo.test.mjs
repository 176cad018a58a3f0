// The page that visitors see, as any static host serves it below a sub-path.
import assert from 'node:assert/strict';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/chrome.mjs';
import { DEMO, listen, loseInWorker, photograph, photographs, site } from '../lib/site.mjs';
import { writeZeros } from '../lib/small-model.mjs';

const PATH = 'some/where/';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let served;
let browser;
/** What the server does instead of serving a path, if it returns true. */
let meddle;

before(async () => {
  served = await site({
    mounts: { [`/${PATH}`]: `${DEMO}dist/` },
    answer: (url, request, response) => meddle?.(url.pathname, response) || loseInWorker(url, request, response),
  });
  browser = await launch({ webgpu: 'off' });
});
after(async () => {
  await browser?.close();
  await served?.close();
});

/** Opens the page and waits for the model, or for a message; or for what `until` selects. */
async function visit({ query = '', in: where = browser, context = {}, init, until } = {}) {
  const page = listen(await (await where.newContext(context)).newPage());
  // A software GPU compiles for many seconds; nothing here is about time.
  page.setDefaultTimeout(180_000);
  if (init) await page.addInitScript(typeof init === 'string' ? { content: init } : init);
  await page.goto(served.url + PATH + query);
  if (until) await page.waitForSelector(until);
  else await page.waitForFunction(() => document.body.dataset.ready || document.querySelector('[data-key=model]'), null);
  return page;
}

const shown = (page) => page.waitForFunction(() => document.getElementById('best').dataset.empty === 'false' && document.getElementById('best').dataset.label).then((handle) => handle.jsonValue());

/** The button of a sample picture. */
const sample = (label) => `[data-sample$="/${label}.jpg"]`;

/** The message of a key. */
const message = async (page, key) => (await page.waitForSelector(`[data-key=${key}]`)).innerText();

/** Presses a button of the message of a key. */
const press = (page, key, button) => page.click(`[data-key=${key}] button:text-is("${button}")`);

describe('pictures', () => {
  test('each sample gets its name; five bars, the numbers and the reason are filled in', async () => {
    const page = await visit();
    for (const label of ['2', '5', 'dress', 'shoes', 'hat', 't-shirt']) {
      await page.click(sample(label));
      await page.waitForFunction((label) => document.getElementById('best').dataset.label === label, label).catch(async () => assert.fail(`${label} is shown as ${await page.innerText('#best')}`));
    }
    assert.equal(await page.innerText('#best'), 'T-shirt');
    assert.equal(await page.locator('#bars li:visible').count(), 5);
    assert.equal(await page.locator('.hint:visible, #progress:visible').count(), 0);
    assert.match(await page.innerText('#ms'), /^\d/);
    assert.equal(await page.innerText('#device'), 'CPU');
    assert.match(await page.innerText('#why'), /WebGPU.*blocks/);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('test photographs that are chosen are named as the package names them, nearly all rightly', async () => {
    const page = await visit();
    const all = photographs();
    const each = Map.groupBy ? [...Map.groupBy(all, ({ label }) => label).values()].flatMap((list) => list.slice(0, 3)) : all.filter((_, i) => i % 5 === 0);
    let right = 0;
    for (const { file, label } of each) {
      await page.evaluate(() => delete document.getElementById('best').dataset.label);
      await page.setInputFiles('#file', file);
      const got = await shown(page);
      const direct = await page.evaluate(async (base64) => {
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        return (await globalThis.aimDemo.aim.classify(new Blob([bytes])))[0].label;
      }, readFileSync(file).toString('base64'));
      assert.equal(got, direct, file);
      if (got === label) right += 1;
    }
    assert.ok(right / each.length >= 0.7, `${right} of ${each.length} are right`);
    await page.context().close();
  });

  test('a picture that is dropped', async () => {
    const page = await visit();
    const base64 = readFileSync(photograph('5')).toString('base64');
    await page.evaluate((base64) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))], 'hand.jpg', { type: 'image/jpeg' }));
      for (const type of ['dragenter', 'dragover', 'drop']) document.getElementById('stage').dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }, base64);
    assert.equal(await shown(page), '5');
    // One that is a class's.
    await page.click('#tab-teach');
    const covered = await page.evaluate((base64) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))], 'hand.jpg', { type: 'image/jpeg' }));
      return ['dragenter', 'dragover', 'drop'].map((type) => {
        document.querySelector('.class').dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        return document.getElementById('stage').classList.contains('dragging');
      });
    }, base64);
    assert.deepEqual(covered, [true, true, false]);
    await page.waitForFunction(() => document.querySelector('.class [data-part=count]').textContent === '1 picture');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('an SVG', async () => {
    const page = await visit();
    await page.setInputFiles('#file', { name: 'flag.svg', mimeType: 'image/svg+xml', buffer: readFileSync(new URL('pages/flag.svg', import.meta.url)) });
    const outcome = await page.waitForFunction(() => (document.querySelector('[data-key=picture]') ? 'refused' : document.getElementById('best').dataset.empty === 'false' && 'named'));
    assert.equal(await outcome.jsonValue(), 'named');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a file that is no picture: a message, and the next one works', async () => {
    const page = await visit();
    await page.setInputFiles('#file', { name: 'x.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no picture') });
    assert.match(await message(page, 'picture'), /not a picture this browser can read/);
    await page.click(sample('5'));
    assert.equal(await shown(page), '5');
    assert.equal(await page.locator('[data-key=picture]').count(), 0);
    await page.context().close();
  });

  for (const [how, fail] of [
    ['is not there', (response) => response.writeHead(404).end()],
    ['breaks off', (response) => response.destroy()],
  ]) {
    test(`a sample that ${how}: that is told of the picture, and the model stays`, async () => {
      meddle = (path, response) => path.endsWith('/samples/5.jpg') && (fail(response), true);
      const page = await visit();
      await page.evaluate(() => (globalThis.before = globalThis.aimDemo.aim));
      await page.click(sample('5'));
      assert.match(await message(page, 'picture'), /picture did not arrive/);
      assert.equal(await page.getAttribute('#stage', 'data-view'), 'empty');
      meddle = undefined;
      await press(page, 'picture', 'Try again');
      assert.equal(await shown(page), '5');
      assert.equal(await page.getAttribute(sample('5'), 'aria-pressed'), 'true');
      assert.ok(await page.evaluate(() => globalThis.before === globalThis.aimDemo.aim), 'the model was loaded again');
      assert.equal(await page.locator('[data-key=model], [data-key=picture]').count(), 0);
      await page.context().close();
    });
  }
});

/** A camera film of one test photograph: frames of 640 x 480, as a webcam gives them. */
async function film(folder, photos) {
  const page = await browser.newPage();
  await page.goto(served.url);
  const frames = await page.evaluate(async (photos) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
    const context = canvas.getContext('2d');
    const frames = [];
    for (const photo of photos) {
      const bitmap = await createImageBitmap(await (await fetch(`data:image/jpeg;base64,${photo}`)).blob());
      // The photograph fills the height and is repeated beside itself, so that no edge is in the way.
      const scale = 480 / bitmap.height;
      context.drawImage(bitmap, 0, 0, 640, 480);
      context.drawImage(bitmap, (640 - bitmap.width * scale) / 2, 0, bitmap.width * scale, 480);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.92));
      const bytes = new Uint8Array(await blob.arrayBuffer());
      frames.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')));
    }
    return frames;
  }, photos.map((file) => readFileSync(file).toString('base64')));
  await page.close();
  const path = join(folder, 'camera.mjpeg');
  const jpegs = frames.map((frame) => Buffer.from(frame, 'base64'));
  writeFileSync(path, Buffer.concat(Array.from({ length: 30 }, (_, i) => jpegs[i % jpegs.length])));
  return path;
}

/** Puts cameras into a page: the test says which are plugged in, and answers for the user if `asks` is set. */
function fakeCameras() {
  const fake = (globalThis.fake = { cameras: ['front', 'back'], tracks: [], asks: false, questions: [] });
  const live = (id) => {
    // A phone that is held upright.
    const canvas = Object.assign(document.createElement('canvas'), globalThis.phone ? { width: 48, height: 64 } : { width: 64, height: 48 });
    const context = canvas.getContext('2d');
    // A canvas gives a frame whenever it is drawn on.
    context.fillStyle = '#a64';
    setInterval(() => context.fillRect(0, 0, 64, 64), 100);
    const stream = canvas.captureStream();
    const [track] = stream.getVideoTracks();
    track.getSettings = () => ({ deviceId: id, ...(globalThis.phone && { facingMode: id === 'back' ? 'environment' : 'user' }) });
    fake.tracks.push(track);
    return stream;
  };
  fake.live = () => fake.tracks.filter(({ readyState }) => readyState === 'live').map((track) => track.getSettings().deviceId);
  navigator.mediaDevices.enumerateDevices = async () => fake.cameras.map((id) => ({ kind: 'videoinput', deviceId: id, label: id }));
  navigator.mediaDevices.getUserMedia = async ({ video }) => {
    const id = video.deviceId?.exact ?? fake.cameras[video.facingMode === 'environment' ? 1 : 0];
    if (fake.asks) await new Promise((allow) => fake.questions.push(allow));
    if (!fake.cameras.includes(id)) throw Object.assign(new Error(''), { name: 'OverconstrainedError' });
    return live(id);
  };
}

/** Which cameras run, and what the page shows of them. */
const state = (page) =>
  page.evaluate(() => ({
    live: globalThis.fake.live(),
    view: document.getElementById('stage').dataset.view,
    marked: !document.getElementById('live').hidden,
    button: document.getElementById('camera').textContent,
    enabled: !document.getElementById('camera').disabled,
  }));
const OFF = { live: [], view: 'empty', marked: false, button: 'Start camera', enabled: true };
const on = (id) => ({ live: [id], view: 'video', marked: true, button: 'Stop camera', enabled: true });

const started = (page) => page.waitForSelector('#stage[data-view=video]');
const asked = (page, count) => page.waitForFunction((count) => globalThis.fake.questions.length === count, count);
/** Answers all questions so far, first come first served, and lets the page do what it does then. */
const allow = (page) =>
  page.evaluate(async () => {
    for (const answer of globalThis.fake.questions) answer();
    await new Promise((resolve) => setTimeout(resolve, 500));
  });

describe('camera', () => {
  for (const label of ['5', 'shoes']) {
    test(`a camera that sees ${label}: the label is right, live`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'aim-web-camera-'));
      const path = await film(folder, [photograph(label)]);
      const camera = await launch({ webgpu: 'off', args: ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${path}`] });
      try {
        const page = await visit({ in: camera, context: { permissions: ['camera'] } });
        await page.click('#camera');
        await page.waitForFunction((label) => document.getElementById('best').dataset.label === label, label).catch(async () => assert.fail(`it is shown as ${await page.innerText('#best')}`));
        await page.waitForFunction(() => /^\d/.test(document.getElementById('fps').textContent));
        assert.equal(await page.innerText('#camera'), 'Stop camera');
        await page.click('#camera');
        assert.equal(await page.innerText('#camera'), 'Start camera');
        assert.equal(await page.evaluate(() => document.getElementById('video').srcObject), null);
        assert.deepEqual(page.problems, []);
      } finally {
        await camera.close();
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }

  test('no camera, and one that is not allowed', async () => {
    const none = await visit();
    await none.click('#camera');
    assert.match(await message(none, 'camera'), /No camera found|not allowed/);
    await none.context().close();
    const denied = await visit({
      init: () => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('Permission denied', 'NotAllowedError'));
      },
    });
    await denied.click('#camera');
    assert.match(await message(denied, 'camera'), /not allowed.*Allow it/s);
    await denied.click(sample('5'));
    assert.equal(await shown(denied), '5');
    await press(denied, 'camera', 'Try again');
    await message(denied, 'camera');
    assert.equal(await denied.getAttribute('#stage', 'data-view'), 'picture', 'a picture outlives a camera that is not allowed');
    assert.equal(await denied.innerText('#best'), 'Hand showing 5');
    await denied.context().close();
  });

  test('a camera can be asked for while the model loads, and stopped where none is', async () => {
    let answer;
    meddle = (path, response) => path === '/held/config.json' && ((answer = () => response.writeHead(404).end()), true);
    const page = await visit({ init: fakeCameras, query: `?model=${encodeURIComponent(`${served.url}held/`)}`, until: '#stop:not([hidden])' });
    await page.click('#camera');
    await started(page);
    assert.deepEqual(await state(page), on('front'));
    assert.equal(await page.innerText('#best'), 'Loading the model');
    while (!answer) await page.waitForTimeout(20);
    meddle = undefined;
    answer();
    await message(page, 'model');
    assert.deepEqual(await state(page), on('front'));
    await page.click('#camera');
    assert.deepEqual(await state(page), { ...OFF, enabled: false });
    assert.equal(await page.innerText('#best'), 'No model');
    await page.context().close();
  });

  test('a camera that is interrupted is not live; it goes on when that ends', async () => {
    const page = await visit({ init: fakeCameras });
    await page.click('#camera');
    await started(page);
    await shown(page);
    const mute = (muted) =>
      page.evaluate((muted) => {
        const [track] = globalThis.fake.tracks;
        Object.defineProperty(track, 'muted', { value: muted, configurable: true });
        track.dispatchEvent(new Event(muted ? 'mute' : 'unmute'));
      }, muted);
    await mute(true);
    assert.deepEqual(await state(page), { ...on('front'), marked: false });
    assert.match(await page.innerText('#interrupted'), /interrupted/);
    assert.equal(await page.textContent('#spoken'), 'The camera is interrupted');
    // What a phone does besides.
    await page.evaluate(() => document.getElementById('video').pause());
    await mute(false);
    await page.waitForFunction(() => !document.getElementById('video').paused);
    assert.deepEqual(await state(page), on('front'));
    assert.equal(await page.isVisible('#interrupted'), false);
    await shown(page);
    await page.context().close();
  });

  test('a camera that went away while the page was hidden; the screen stays on while it is live', async () => {
    const page = await visit({
      init: `(${fakeCameras})(); globalThis.locks = [];
        Object.defineProperty(navigator, 'wakeLock', { value: { async request(type) { const lock = { type, released: false, async release() { lock.released = true; } }; locks.push(lock); return lock; } } });`,
    });
    const visible = (state) =>
      page.evaluate((state) => {
        Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, state);
    const locks = () => page.evaluate(() => globalThis.locks.map(({ released }) => released));
    await page.click('#camera');
    await started(page);
    assert.deepEqual(await locks(), [false]);
    await page.evaluate(() => {
      // As a browser does for a hidden page.
      globalThis.locks[0].released = true;
      document.getElementById('video').pause();
    });
    await visible('hidden');
    await visible('visible');
    await page.waitForFunction(() => !document.getElementById('video').paused);
    assert.deepEqual(await locks(), [true, false]);
    await visible('hidden');
    // Without an event of its own, which a frozen page does not get.
    await page.evaluate(() => globalThis.fake.tracks[0].stop());
    await visible('visible');
    assert.match(await message(page, 'camera'), /went away/);
    assert.deepEqual(await state(page), OFF);
    assert.deepEqual(await locks(), [true, true]);
    await page.context().close();
  });

  test('front and back; the stage stands up for a video that does', async () => {
    const page = await visit({ init: `globalThis.phone = true; (${fakeCameras})();`, context: { viewport: { width: 390, height: 844 } } });
    assert.equal(await page.isVisible('#flip'), false);
    await page.click('#camera');
    await started(page);
    assert.equal(await page.evaluate(() => document.getElementById('video').classList.contains('mirrored')), true);
    // 48 x 64 fill the stage, where a stage of 4:3 would show them on 56% of it.
    await page.waitForFunction(() => document.getElementById('video').videoHeight === 64);
    const filled = await page.evaluate(() => {
      const { clientWidth, clientHeight } = document.getElementById('stage');
      return Math.min(clientWidth / 48, clientHeight / 64) ** 2 * 48 * 64 / (clientWidth * clientHeight);
    });
    assert.ok(filled > 0.95, `${filled}`);
    await page.click('#flip');
    await page.waitForFunction(() => globalThis.fake.live().join() === 'back');
    await started(page);
    assert.equal(await page.evaluate(() => document.getElementById('video').classList.contains('mirrored')), false);
    await page.click('#flip');
    await page.waitForFunction(() => globalThis.fake.live().join() === 'front');
    await page.click('#camera');
    assert.deepEqual(await state(page), OFF);
    await page.context().close();
  });

  test('frames that cannot be read: said after a second, not at each; a good one takes it back', async () => {
    const page = await visit({ init: fakeCameras });
    await page.evaluate(() => {
      const { aim } = globalThis.aimDemo;
      const classify = aim.classifyForVideo;
      globalThis.broken = true;
      aim.classifyForVideo = function (...args) {
        return globalThis.broken ? Promise.reject(Object.assign(new Error('no pixels'), { code: 'image' })) : classify.apply(this, args);
      };
    });
    await page.click('#camera');
    await started(page);
    assert.match(await message(page, 'frames'), /pictures cannot be read/);
    assert.equal(await page.locator('[data-key=frames]').count(), 1);
    assert.deepEqual(await state(page), on('front'));
    await page.evaluate(() => (globalThis.broken = false));
    await shown(page);
    await page.waitForSelector('[data-key=frames]', { state: 'detached' });
    await page.context().close();
  });

  test('of cameras that are chosen one after the other the last runs, alone', async () => {
    const page = await visit({ init: fakeCameras });
    await page.click('#camera');
    await started(page);
    await page.evaluate(() => (globalThis.fake.asks = true));
    for (const id of ['back', 'front', 'back']) await page.selectOption('#cameras', id);
    await asked(page, 3);
    assert.deepEqual(await state(page), { ...OFF, button: 'Stop camera' });
    await allow(page);
    await started(page);
    assert.deepEqual(await state(page), on('back'));
    assert.equal(await page.evaluate(() => document.getElementById('video').srcObject.getVideoTracks()[0].getSettings().deviceId), 'back');
    await page.click('#camera');
    assert.deepEqual(await state(page), OFF);
    assert.equal(await page.locator('[data-key=camera]').count(), 0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a picture that is chosen, or a stop, while the browser asks for permission: the camera stays off', async () => {
    const page = await visit({ init: fakeCameras });
    await page.evaluate(() => (globalThis.fake.asks = true));
    await page.click('#camera');
    await page.click('#camera');
    await page.click('#camera');
    await asked(page, 2);
    await page.click(sample('5'));
    assert.equal(await shown(page), '5');
    await allow(page);
    assert.deepEqual(await state(page), { ...OFF, view: 'picture' });
    assert.equal(await page.evaluate(() => globalThis.fake.tracks.length), 2);
    assert.equal(await page.innerText('#best'), 'Hand showing 5');
    await page.context().close();
  });

  test('a camera that is unplugged: another takes its place', async () => {
    const page = await visit({ init: fakeCameras });
    await page.click('#camera');
    await started(page);
    await page.evaluate(() => {
      globalThis.fake.cameras = ['desk', 'door'];
      // What unplugging it does.
      globalThis.fake.tracks[0].stop();
      globalThis.fake.tracks[0].dispatchEvent(new Event('ended'));
    });
    assert.match(await message(page, 'camera'), /went away/);
    assert.deepEqual(await state(page), OFF);
    await press(page, 'camera', 'Start again');
    await started(page);
    assert.deepEqual(await state(page), on('desk'));
    assert.equal(await page.inputValue('#cameras'), 'desk');
    assert.equal(await page.locator('[data-key=camera]').count(), 0);
    await page.context().close();
  });
});

describe('model', () => {
  test('another model by its URL, then a name that is none, then the built-in one again', async () => {
    const page = await visit();
    await page.click(sample('5'));
    await page.check('input[value=named]');
    await page.fill('#name', `${served.url}small/`);
    await page.click('#load');
    await page.waitForFunction(() => /^class /.test(document.getElementById('best').dataset.label ?? ''));
    await page.evaluate(() => (globalThis.before = globalThis.aimDemo.aim));
    for (const [name, text] of [
      ['nonsense', /does not work.*hub name such as/s],
      [`${served.url}nowhere/`, /no such model/],
    ]) {
      await page.fill('#name', name);
      await page.click('#load');
      assert.match(await message(page, 'model'), text);
      // The model that works is still there, with its result.
      assert.ok(await page.evaluate(() => globalThis.before === globalThis.aimDemo.aim));
      assert.match(await page.innerText('#best'), /Class|class/);
      assert.match(await page.innerText('#device'), /CPU/);
      await page.click(sample('hat'));
      assert.match(await shown(page), /^class /);
    }
    await page.click(sample('5'));
    await page.check('input[value=embedded]');
    await page.click('#load');
    await page.waitForFunction(() => document.getElementById('best').dataset.label === '5');
    assert.equal(await page.locator('[data-key=model]').count(), 0);
    await page.context().close();
  });

  test('a load that another one replaces says nothing; one that is stopped leaves the model before', async () => {
    const page = await visit();
    let requests = 0;
    // Never answered.
    meddle = (path) => path.startsWith('/held/') && (requests += 1) > 0;
    await page.check('input[value=named]');
    for (const folder of ['held/one/', 'held/two/']) {
      const before = requests;
      await page.fill('#name', served.url + folder);
      await page.click('#load');
      while (requests === before) await page.waitForTimeout(20);
    }
    await page.waitForTimeout(200);
    assert.equal(await page.textContent('#spoken'), 'Loading the model');
    await page.click('#stop');
    await page.waitForSelector('#stop', { state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement.id), 'load');
    await page.click(sample('5'));
    assert.equal(await shown(page), '5');
    meddle = undefined;
    assert.equal(await page.locator('[data-key=model]').count(), 0);
    await page.context().close();
  });

  test('a model too large to stand beside the one before takes its place once it is known to exist', async () => {
    const page = await visit();
    await page.click(sample('5'));
    await shown(page);
    const pictures = (count) => page.waitForFunction((count) => document.querySelector('[data-class="Class 1"] [data-part=count]').textContent === count, count);
    await page.click('#tab-teach');
    await page.setInputFiles('[data-class="Class 1"] input[type=file]', [photograph('5'), photograph('2')]);
    await pictures('2 pictures');
    await page.click('#tab-name');
    const folder = mkdtempSync(join(tmpdir(), 'aim-web-large-'));
    // 400 MB, of which the first chunk comes.
    writeZeros(folder, { embed_dim: 2048, img_size: 28, num_blocks: 2, num_heads: 16, probe_layers: [1] });
    meddle = (path, response) => {
      if (!path.startsWith('/large/')) return false;
      const file = `${folder}/${path.slice('/large/'.length)}`;
      if (!existsSync(file)) response.writeHead(404).end();
      else if (path.endsWith('.safetensors')) {
        const { size } = statSync(file);
        const [, from, to] = /bytes=(\d+)-(\d+)/.exec(response.req.headers.range).map(Number);
        const end = Math.min(to, size - 1);
        response.writeHead(206, { 'content-range': `bytes ${from}-${end}/${size}`, 'content-length': end - from + 1 });
        if (from === 0) createReadStream(file, { end }).pipe(response);
      } else response.end(readFileSync(file));
      return true;
    };
    try {
      await page.check('input[value=named]');
      await page.fill('#name', `${served.url}large/`);
      await page.click('#load');
      await page.waitForFunction(() => globalThis.aimDemo.aim === undefined && document.getElementById('best').textContent === 'Loading the model');
      await page.click('#stop');
      await page.waitForFunction(() => document.getElementById('best').textContent === 'No model');
      await pictures('0 pictures');
    } finally {
      meddle = undefined;
      rmSync(folder, { recursive: true, force: true });
    }
    // The pictures of the lesson waited for a model.
    await page.check('input[value=embedded]');
    await page.click('#load');
    await pictures('2 pictures');
    assert.match(await message(page, 'lesson'), /looked at all of your pictures/);
    await page.context().close();
  });

  test('a cache that cannot be cleared: told, and it can be tried again', async () => {
    const page = await visit({
      query: `?model=${encodeURIComponent(`${served.url}small/`)}`,
      init: () => {
        const drop = Cache.prototype.delete;
        Cache.prototype.delete = async function (...args) {
          if (globalThis.broken) throw new Error('the disk is broken');
          return drop.apply(this, args);
        };
      },
    });
    const cleared = () => page.waitForFunction(() => document.getElementById('cache').textContent === 'Nothing in the cache');
    await page.waitForSelector('#clear:enabled');
    await page.evaluate(() => (globalThis.broken = true));
    await page.click('#clear');
    assert.match(await message(page, 'cache'), /not cleared/);
    await page.waitForSelector('#clear:enabled');
    await page.evaluate(() => (globalThis.broken = false));
    await page.click('#clear');
    await cleared();
    assert.equal(await page.locator('[data-key=cache]').count(), 0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('no WebGPU: told when it is asked for, and in passing when it is not', async () => {
    const asked = await visit({ query: '?device=webgpu' });
    assert.match(await message(asked, 'model'), /cannot do that.*Choose the CPU/s);
    await asked.context().close();
    const passing = await visit();
    assert.match(await message(passing, 'no-webgpu'), /Running on the CPU.*WebGPU/s);
    await passing.context().close();
  });

  test('offline: told, and what is loaded goes on', async () => {
    const page = await visit();
    await page.context().setOffline(true);
    assert.match(await message(page, 'offline'), /offline/);
    await page.setInputFiles('#file', photograph('5'));
    assert.equal(await shown(page), '5');
    await page.check('input[value=named]');
    await page.fill('#name', 'user/repo');
    await page.click('#load');
    assert.match(await message(page, 'model'), /offline/);
    await page.context().close();
  });

  test('an update is whole without a network, and takes nothing from another place of the origin', async () => {
    const page = await visit();
    const names = () => page.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith('aim-web-page ')).sort());
    await page.waitForFunction(async () => (await Promise.all((await caches.keys()).map(async (name) => (await (await caches.open(name)).keys()).some(({ url }) => url.endsWith('/aim_web_bg.wasm'))))).some(Boolean));
    const other = `aim-web-page ${served.url}else/where/ 1`;
    await page.evaluate((other) => caches.open(other), other);
    const worker = readFileSync(`${DEMO}dist/sw.js`, 'utf8').replace(/VERSION = '\w+'/, "VERSION = 'next'");
    meddle = (path, response) => path.endsWith('/sw.js') && (response.writeHead(200, { 'content-type': 'text/javascript' }).end(worker), true);
    await page.evaluate(async () => {
      const registration = await (await navigator.serviceWorker.ready).update();
      const next = registration.installing;
      while (next.state !== 'activated') await new Promise((resolve) => next.addEventListener('statechange', resolve, { once: true }));
    });
    assert.deepEqual(await names(), [other, `aim-web-page ${served.url}${PATH} next`]);
    await page.context().setOffline(true);
    await page.goto(served.url + PATH);
    await page.waitForFunction(() => document.body.dataset.ready, null, { timeout: 30_000 });
    await page.context().close();
    // Not before: a browser may ask for the worker again at any time, and would find the version before.
    meddle = undefined;
  });

  test('a lost device: told, and the next picture is named', async () => {
    const software = await launch({ webgpu: 'software' });
    try {
      const page = await visit({ in: software, init: readFileSync(new URL('pages/lose.js', import.meta.url), 'utf8'), query: `?device=webgpu&model=${encodeURIComponent(`${served.url}small/`)}` });
      assert.equal(await page.innerText('#device'), 'WebGPU');
      await page.click(sample('5'));
      const before = await shown(page);
      for (const words of [/lost and is back/, /lost\s.*on the CPU/s]) {
        await page.evaluate(() => loseDevice());
        await page.evaluate(() => delete document.getElementById('best').dataset.label);
        await page.click(sample('5'));
        assert.equal(await shown(page), before);
        assert.match(await message(page, 'lost'), words);
      }
      assert.equal(await page.innerText('#device'), 'CPU');
    } finally {
      await software.close();
    }
  });
});

describe('fields', () => {
  /** Drops or pastes `data` ({ type: text } and files) on an element; false if the page takes it for itself. */
  const give = (page, selector, type, data) =>
    page.evaluate(
      ([selector, type, data]) => {
        const transfer = new DataTransfer();
        for (const [kind, text] of Object.entries(data)) {
          if (kind === 'file') transfer.items.add(new File([text], 'x.png', { type: 'image/png' }));
          else transfer.setData(kind, text);
        }
        const Kind = type === 'paste' ? ClipboardEvent : DragEvent;
        const init = { bubbles: true, cancelable: true, [type === 'paste' ? 'clipboardData' : 'dataTransfer']: transfer };
        return document.querySelector(selector).dispatchEvent(new Kind(type, init));
      },
      [selector, type, data],
    );

  test("text that is dropped or pasted into the model's field is the field's; a file is a picture, a link leads nowhere", async () => {
    const page = await visit();
    await page.check('input[value=named]');
    const text = { 'text/plain': 'apple/aim-600M' };
    for (const type of ['dragover', 'drop', 'paste']) assert.equal(await give(page, '#name', type, text), true, type);
    // From an office program.
    assert.equal(await give(page, '#name', 'paste', { ...text, file: 'picture' }), true);
    assert.equal(await page.getAttribute('#stage', 'data-view'), 'empty');
    for (const type of ['dragover', 'drop']) {
      assert.equal(await give(page, 'body', type, { 'text/uri-list': 'https://elsewhere.example/' }), false, type);
      assert.equal(await give(page, '#name', type, { file: 'no picture' }), false, type);
    }
    await message(page, 'picture');
    await press(page, 'picture', 'Dismiss');
    await give(page, 'body', 'paste', { file: 'no picture' });
    await message(page, 'picture');
    await page.context().close();
  });
});

describe('messages', () => {
  test('their region is there before them, what they offer can be declined, the focus stays in the page', async () => {
    const page = await visit();
    await press(page, 'no-webgpu', 'Dismiss');
    const region = await page.evaluate(() => ({ empty: document.querySelector('#notices:empty') !== null, display: getComputedStyle(document.getElementById('notices')).display }));
    assert.deepEqual(region, { empty: true, display: 'grid' });
    assert.equal(await page.evaluate(() => document.activeElement.localName), 'main');
    await page.click('#camera');
    await message(page, 'camera');
    await page.setInputFiles('#file', { name: 'x.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no picture') });
    await message(page, 'picture');
    await press(page, 'camera', 'Dismiss');
    assert.equal(await page.evaluate(() => document.activeElement.closest('.notice').dataset.key), 'picture');
    assert.equal(await page.locator('[data-key=camera]').count(), 0);
    await page.context().close();
  });

  test('what is spoken is what the heading says', async () => {
    const page = await visit();
    await page.evaluate(() => (globalThis.aimDemo.aim.classify = async () => [{ label: 'dress', score: 0.3, index: 0 }]));
    await page.click(sample('5'));
    await shown(page);
    assert.equal(await page.innerText('#best'), 'Not sure: Dress?');
    assert.equal(await page.textContent('#spoken'), await page.innerText('#best'));
    assert.equal(await page.getAttribute('#spoken', 'role'), 'status');
    assert.equal(await page.locator('output, [aria-live] #ms, [aria-live] #fps').count(), 0, 'numbers that change with every frame are spoken');
    await page.context().close();
  });
});

describe('accessibility', () => {
  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing, ${colorScheme}, at 320 px: empty, with a picture, with the camera, with messages`, async () => {
      const page = await visit({ init: `globalThis.phone = true; (${fakeCameras})();`, context: { viewport: { width: 320, height: 640 }, colorScheme } });
      const check = async (what) => {
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`), [], what);
      };
      await check('empty');
      await page.click(sample('5'));
      await shown(page);
      await page.check('input[value=named]');
      await check('a picture');
      await page.click('#camera');
      await started(page);
      await check('the camera');
      await page.setInputFiles('#file', { name: 'x.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no picture') });
      await message(page, 'picture');
      await check('messages');
      await page.context().close();
    });
  }

  test('loading, ready and the label are announced politely, the label not at every frame', async () => {
    const page = await visit({
      init: `(${fakeCameras})(); globalThis.said = [];
        new MutationObserver((changes) => {
          for (const { target } of changes) if (target.id === 'spoken') said.push(target.textContent);
        }).observe(document, { childList: true, subtree: true });`,
    });
    await page.click('#camera');
    await started(page);
    await page.waitForFunction(() => globalThis.said.length >= 3);
    // Frames come ten times a second and all say the same.
    const [loading, ready, label, ...more] = await page.evaluate(() => globalThis.said);
    assert.deepEqual([loading, ready], ['Loading the model', 'The model is ready']);
    assert.equal(label, await page.innerText('#best'));
    assert.deepEqual(more, []);
    assert.equal(await page.evaluate(() => document.querySelector('#spoken').closest('[aria-live=assertive]')), null);
    await page.context().close();
  });
});

describe('layout', () => {
  for (const colorScheme of ['light', 'dark']) {
    test(`a phone's width, ${colorScheme}: nothing is cut off, every control has a name`, async () => {
      const page = await visit({ context: { viewport: { width: 360, height: 740 }, colorScheme } });
      await page.click(sample('5'));
      await shown(page);
      // WCAG 2.2, 1.4.11: what bounds a control stands out by 3:1 from what is around it.
      await page.evaluate(() => {
        const luminance = (colour) => {
          const [red, green, blue] = colour.match(/[\d.]+/g).map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
          return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        };
        const ground = (element) => {
          const { backgroundColor } = getComputedStyle(element);
          return backgroundColor === 'rgba(0, 0, 0, 0)' ? ground(element.parentElement) : backgroundColor;
        };
        globalThis.contrast = (name) => {
          const element = document.querySelector(name);
          const [dark, light] = [getComputedStyle(element).borderTopColor, ground(element.parentElement)].map(luminance).sort((a, b) => a - b);
          return (light + 0.05) / (dark + 0.05);
        };
      });
      const facts = await page.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        unnamed: [...document.querySelectorAll('button, input, select, img, video')].filter((element) => !element.hidden && !(element.textContent.trim() || element.labels?.length || element.getAttribute('aria-label') || element.querySelector('img[alt]:not([alt=""])') || element.hasAttribute('alt'))).map((element) => element.outerHTML),
        orphans: [...document.querySelectorAll('label')].filter((label) => label.control?.closest('[hidden]') && !label.closest('[hidden]')).map((label) => label.outerHTML),
        small: [...document.querySelectorAll('button, select')].filter((element) => element.offsetParent && element.getBoundingClientRect().height < 24).length,
        background: getComputedStyle(document.body).backgroundColor,
        edges: ['#camera', '#want-device', '#want-dtype', '.choice label', '.button'].map((name) => [name, contrast(name)]),
      }));
      assert.ok(facts.overflow <= 0, `${facts.overflow} px too wide`);
      assert.deepEqual(facts.unnamed, []);
      assert.deepEqual(facts.orphans, [], 'labels of hidden controls');
      assert.equal(facts.small, 0);
      for (const [name, contrast] of facts.edges) assert.ok(contrast >= 3, `the border of ${name} has a contrast of ${contrast}`);
      const [red] = facts.background.match(/\d+/g).map(Number);
      assert.ok(colorScheme === 'dark' ? red < 60 : red > 200, facts.background);
      await page.context().close();
    });
  }
});
