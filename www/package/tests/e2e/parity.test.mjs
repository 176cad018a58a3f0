// The page and aim-bench, the program, agree: the same label and nearly the same scores, on the CPU and on WebGPU.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from '../lib/chrome.mjs';
import { AIM_BENCH, DEMO, open, photograph, photographs, site } from '../lib/site.mjs';

let served;
/** The embedded model, as any folder. */
const TRUNK = fileURLToPath(new URL('../../../../models/aim-tiny/', import.meta.url));
/** What aim-bench trains. */
const folder = mkdtempSync(join(tmpdir(), 'aim-web-heads-'));
before(async () => {
  served = await site({ mounts: { '/demo/': `${DEMO}dist/`, '/heads/': `${folder}/`, '/trunk/': TRUNK } });
});
after(async () => {
  await served?.close();
  rmSync(folder, { recursive: true, force: true });
});

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

/** The tensors of a head's file, by name. */
function tensors(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries } = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const half = (bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  };
  const values = ({ dtype, data_offsets: [from, to] }) => {
    const data = bytes.subarray(8 + length + from, 8 + length + to);
    return Array.from({ length: data.length / (dtype === 'F16' ? 2 : 4) }, (_, i) => (dtype === 'F16' ? half(data.readUInt16LE(2 * i)) : data.readFloatLE(4 * i)));
  };
  return { metadata, values: Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, values(entry)])) };
}

/** Copies the folder of a head, with another name of its trunk. */
function rename(from, to, name) {
  const renamed = (config) => JSON.stringify({ ...JSON.parse(config), trunk: { ...JSON.parse(config).trunk, name } });
  const bytes = readFileSync(`${from}/head.safetensors`);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, end).toString());
  header.__metadata__['aim.config'] = renamed(header.__metadata__['aim.config']);
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(8 + 8 * Math.ceil(text.length / 8), ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  text.copy(padded, 8);
  mkdirSync(to);
  writeFileSync(`${to}/head.safetensors`, Buffer.concat([padded, bytes.subarray(end)]));
  writeFileSync(`${to}/config.json`, renamed(readFileSync(`${from}/config.json`, 'utf8')));
  copyFileSync(`${from}/labels.json`, `${to}/labels.json`);
}

test('a head that the page trains is the one that aim-bench trains of the same pictures, within 1e-3; each takes the other\'s', async () => {
  const groups = { garment: ['dress', 'pants', 'shirt', 'shoes', 'skirt'], hand: ['0', '2', '4', '5', '7'] };
  for (const [name, labels] of Object.entries(groups)) {
    mkdirSync(`${folder}/data/${name}`, { recursive: true });
    for (const label of labels) copyFileSync(photograph(label), `${folder}/data/${name}/${label}.jpg`);
  }
  const browser = await launch({ webgpu: 'off' });
  try {
    const page = await open(browser, served.url);
    for (const head of ['mean', 'linear', 'attention']) {
      execFileSync(AIM_BENCH, ['train', '--device', 'cpu', '--dtype', 'fp32', '--progress', 'off', '--head', head, '--seed', '3', '--data-path', `${folder}/data`, '--output', `${folder}/${head}`], { stdio: 'pipe' });
      const bench = readFileSync(`${folder}/${head}/head.safetensors`);
      const { file, labels, own } = await page.evaluate(
        async ([groups, head, bench]) => {
          const aim = (globalThis.aim ??= await lib.AimClassifier.fromPretrained(undefined, { dtype: 'fp32' }));
          const lesson = aim.teach({ head });
          for (const [name, labels] of Object.entries(groups)) for (const label of labels) await lesson.add(name, `/photo/${label}.jpg`);
          await lesson.train({ seed: 3 });
          const bytes = new Uint8Array(await (await lesson.export()).arrayBuffer());
          const taken = await lib.AimClassifier.fromPretrained(new Blob([Uint8Array.from(atob(bench), (char) => char.charCodeAt(0))]));
          const [{ label }] = await taken.classify('/photo/9.jpg');
          const result = { file: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')), labels: taken.labels, own: label };
          await taken.dispose();
          await lesson.dispose();
          return result;
        },
        [groups, head, bench.toString('base64')],
      );
      assert.deepEqual([labels, own], [['garment', 'hand'], 'hand'], head);
      const [ours, theirs] = [tensors(Buffer.from(file, 'base64')), tensors(bench)];
      assert.deepEqual(ours.metadata, theirs.metadata, head);
      for (const [name, values] of Object.entries(theirs.values)) {
        const most = Math.max(...values.map(Math.abs), 1e-9);
        const off = Math.max(...values.map((value, i) => Math.abs(value - ours.values[name][i]))) / most;
        console.log(`${head} ${name}: ${off.toExponential(1)}`);
        assert.ok(off <= 1e-3, `${head} ${name} is off by ${off}`);
      }
    }
    // The folder, too, at its address, and what is taught on it; and its trunk is not every trunk.
    const [label, again, refused] = await page.evaluate(async () => {
      const taken = await lib.AimClassifier.fromPretrained('/heads/attention/');
      const [{ label }] = await taken.classify('/photo/skirt.jpg');
      const lesson = taken.teach({ head: 'mean' });
      for (const name of ['skirt', '9']) await lesson.add(name, [`/photo/${name}.jpg`, `/photo/${name}.jpg`]);
      await lesson.train();
      const taught = await lib.AimClassifier.fromPretrained(await lesson.export());
      const again = (await taught.classify('/photo/9.jpg'))[0].label;
      for (const one of [taught, taken]) await one.dispose();
      const file = await (await fetch('/heads/attention/head.safetensors')).blob();
      return [label, again, (await outcome(lib.AimClassifier.fromPretrained(file, { trunk: SMALL }))).code];
    });
    assert.deepEqual([label, again, refused], ['garment', '9', 'integrity']);
    // A folder whose trunk is not where it says, with the option trunk: a folder, and files in memory.
    rename(`${folder}/attention`, `${folder}/moved`, 'http://localhost:1/gone/');
    const ends = await page.evaluate(async () => {
      const files = {};
      for (const [name, file] of [['config.json', 'config.json'], ['labels.json', 'labels.json'], ['model.safetensors', 'model-00001-of-00001.safetensors']]) files[name] = await (await fetch(`/trunk/${file}`)).arrayBuffer();
      const labels = [];
      for (const [trunk, worker] of [['/trunk/', true], [files, true], [files, false]]) {
        const taken = await lib.AimClassifier.fromPretrained('/heads/moved/', { trunk, worker });
        labels.push((await taken.classify('/photo/skirt.jpg'))[0].label, taken.info.trunk);
        await taken.dispose();
      }
      const code = async (...load) => (await outcome(lib.AimClassifier.fromPretrained(...load))).code;
      return [labels, await code('/heads/moved/', { timeouts: { longestWait: 0.1 } }), await code('/heads/moved/', { trunk: SMALL }), await code('/heads/moved/', { trunk: '/heads/attention/' }), await code(SMALL, { trunk: '/trunk/' })];
    });
    assert.deepEqual(ends, [['garment', `${served.url}trunk/`, 'garment', undefined, 'garment', undefined], 'network', 'integrity', 'format', 'option']);
  } finally {
    await browser.close();
  }
});
