// Lessons, against a mock of the wasm module: who holds what, and what becomes of it on bad days.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AimClassifier, AimError } from '../../dist/index.js';
import { mockModel } from '../mock/lay-out.mjs';
import { HARDWARE, aimError, gpu, load, picture, reset, sleep, soon, wasmUrl } from '../lib/mocked.mjs';

const other = { data: Uint8Array.of(90, 20, 3, 255), width: 1, height: 1 };

/** A lesson of two classes with two pictures each. */
async function lessonOf(aim, options) {
  const lesson = aim.teach(options);
  await lesson.add('a', [picture, picture]);
  await lesson.add('b', [other, other]);
  return lesson;
}

/** Bytes of a safetensors file. */
function file(header, data = new Uint8Array(0)) {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  return new Blob([length, text, data]);
}

describe('a lesson', () => {
  test('counts, examples, names without spaces around them, remove, rename, reset', async () => {
    reset();
    const aim = await load();
    const lesson = aim.teach();
    assert.deepEqual([{ ...lesson.counts }, lesson.examples], [{}, []]);
    assert.equal(await lesson.add(' a ', picture), 1);
    assert.deepEqual(await lesson.add('b', [other, picture]), [2, 3]);
    assert.deepEqual({ ...lesson.counts }, { a: 1, b: 2 });
    assert.deepEqual(lesson.examples[1], { id: 2, label: 'b', picture: undefined });
    assert.equal(await lesson.remove(2), 1);
    await lesson.rename('b', 'c');
    assert.deepEqual({ ...lesson.counts }, { a: 1, c: 1 });
    await lesson.rename('c', 'a');
    assert.deepEqual({ ...lesson.counts }, { a: 2 });
    assert.equal(await lesson.remove('a'), 2);
    await assert.rejects(lesson.remove('a'), aimError('not_found', /no class "a"/));
    await assert.rejects(lesson.rename('a', 'b'), aimError('not_found', /no class "a"/));
    await assert.rejects(lesson.remove(9), aimError('not_found', /no picture 9/));
    await lesson.add('d', picture);
    await lesson.reset();
    assert.deepEqual({ ...lesson.counts }, {});
    for (const label of ['', '  ', 7, undefined, 'x'.repeat(300)]) await assert.rejects(lesson.add(label, picture), aimError('option'));
    await assert.rejects(lesson.add('a', 'http://nowhere.invalid:1/x.png'), (error) => error instanceof AimError);
    assert.deepEqual({ ...lesson.counts }, {});
    await aim.dispose();
  });

  test('a class may be called as what every object has', async () => {
    reset();
    const aim = await load();
    const lesson = aim.teach();
    assert.equal(lesson.counts.constructor, undefined);
    for (const label of ['constructor', '__proto__']) await lesson.add(label, [picture, other]);
    assert.deepEqual(Object.entries(lesson.counts), [['constructor', 2], ['__proto__', 2]]);
    assert.equal(lesson.counts.toString, undefined);
    await lesson.train();
    assert.deepEqual(lesson.classifier.labels, ['constructor', '__proto__']);
    await aim.dispose();
  });

  test('small pictures are kept where they can be made; a picture that is none is a typed error, and frames are given back', async () => {
    reset();
    const aim = await load();
    const lesson = aim.teach({ keepPictures: true });
    let open = 0;
    const frame = {
      [Symbol.toStringTag]: 'VideoFrame',
      displayWidth: 2,
      displayHeight: 2,
      clone: () => ((open += 1), { close: () => (open -= 1) }),
    };
    await assert.rejects(lesson.add('a', [new Blob(['no picture']), frame, frame]), aimError('image', /no known format/));
    assert.equal(open, 0);
    await lesson.add('a', picture);
    assert.deepEqual(lesson.examples, [{ id: 1, label: 'a', picture: undefined }]);
    // As a browser does it. What a file claims to be is looked at before the browser decodes it.
    let closed = 0;
    const decoded = [];
    Object.assign(globalThis, {
      ImageData: class {},
      createImageBitmap: async (source) => (decoded.push(source), { width: 4, height: 2, close: () => (closed += 1) }),
      OffscreenCanvas: class {
        getContext = () => ({ translate() {}, rotate() {}, drawImage() {} });
        convertToBlob = async () => new Blob(['small']);
      },
    });
    try {
      await lesson.add('b', picture);
      assert.equal(await lesson.examples[1].picture.text(), 'small');
      decoded.length = 0;
      const huge = new Blob([Uint8Array.of(0x89), 'PNG\r\n', Uint8Array.of(0x1a, 10, 0, 0, 0, 13), 'IHDR', Uint8Array.of(0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20)]);
      await assert.rejects(lesson.add('b', huge), aimError('image', /too large/));
      assert.deepEqual([decoded, closed], [[], 1]);
    } finally {
      for (const name of ['ImageData', 'createImageBitmap', 'OffscreenCanvas']) delete globalThis[name];
    }
    await aim.dispose();
  });

  test('what ends before its module is there, or while a head is taken, ends in that', async () => {
    const counts = reset();
    const aim = await load();
    for (const name of ['train', 'export']) {
      const lesson = aim.teach();
      const call = lesson[name]();
      void lesson.dispose();
      await assert.rejects(call, aimError('disposed'), name);
    }
    const lesson = await lessonOf(aim);
    await lesson.train();
    const before = lesson.classifier;
    const reason = new Error('enough');
    const stop = new AbortController();
    counts.onHead = () => stop.abort(reason);
    await lesson.add('c', [picture, other]);
    const frees = counts.frees;
    await assert.rejects(lesson.train({ signal: stop.signal }), reason);
    // The lesson stays as it was, and what came of the training is freed.
    assert.equal(lesson.classifier, before);
    assert.equal(counts.frees, frees + 1);
    counts.onHead = undefined;
    await lesson.train();
    assert.deepEqual(lesson.classifier.labels, ['a', 'b', 'c']);
    await aim.dispose();
  });

  test('a head that is disposed of after its model, or while that is built again, or after a trap: once', async () => {
    const counts = reset();
    const aim = await load();
    const lesson = await lessonOf(aim);
    await lesson.train();
    const { classifier } = lesson;
    await aim.dispose();
    await classifier.dispose();
    await classifier.dispose();
    assert.equal(counts.frees, 2);

    gpu(HARDWARE);
    const lost = await load();
    const another = await lessonOf(lost);
    await another.train();
    counts.frees = 0;
    counts.destroy();
    // Its device is freed as soon as that is heard.
    while (counts.frees < 2) await sleep(1);
    await another.classifier.dispose();
    assert.equal((await lost.classify(picture)).length, 4);
    await lost.dispose();
    gpu(undefined);

    const broken = await load({ panicOn: { cpu: 5, 'cpu-relaxed': 5 } });
    const last = await lessonOf(broken);
    await last.train();
    counts.frees = 0;
    for (let i = 0; i < 5; i++) await broken.classify(picture).catch(() => undefined);
    await assert.rejects(broken.classify(picture), aimError('device_lost'));
    await last.classifier.dispose();
    assert.equal(counts.frees, 0);
  });

  test('what it learns is what the model saw, and the classifier names by it', async () => {
    const counts = reset();
    const aim = await load({}, { revision: 'v1' });
    const lesson = await lessonOf(aim);
    const events = [];
    const report = await lesson.train({ head: 'linear', epochs: 3, rate: 0.1, seed: 4, heldOut: 0.5, onprogress: (event) => events.push(event.progress) });
    assert.equal(report.accuracy, 1);
    assert.deepEqual(events, [30, 60, 100]);
    const [{ features, ...told }] = counts.lessons;
    assert.deepEqual(told, { classes: ['a', 'b'], labels: [0, 0, 1, 1], head: 'linear', epochs: 3, rate: 0.1, seed: 4, heldOut: 0.5, trunk: 'model in memory@v1', arch: undefined, build: told.build });
    assert.deepEqual(features[0], [10, 200, 30, 10]);
    assert.deepEqual(features[2], [90, 20, 3, 90]);
    const mine = lesson.classifier;
    assert.deepEqual(mine.labels, ['a', 'b']);
    assert.deepEqual(aim.labels, ['a', 'b', 'c', 'd']);
    assert.deepEqual((await mine.classify(picture)).map(({ label }) => label), ['b', 'a']);
    // Its head alone goes; the model, the lesson and its other classifiers stay.
    await mine.dispose();
    assert.equal(counts.frees, 1);
    await assert.rejects(mine.classify(picture), aimError('disposed'));
    await lesson.train();
    await lesson.classifier.classify(picture);
    assert.equal((await aim.classify(picture)).length, 4);
    await aim.dispose();
    await assert.rejects(lesson.classifier.classify(picture), aimError('disposed'));
  });

  test('nothing was trained, one class, options that make no sense', async () => {
    reset();
    const aim = await load();
    await assert.rejects(aim.teach({ head: 'tree' }).add('a', picture), aimError('option', /auto.*mean/));
    await assert.rejects(aim.teach({ heads: 'mean' }).train(), aimError('option', /nearest is 'head'/));
    const lesson = aim.teach();
    assert.throws(() => lesson.classifier, aimError('option', /train\(\)/));
    await assert.rejects(lesson.export(), aimError('option', /train\(\) first/));
    await lesson.add('a', picture);
    await assert.rejects(lesson.train(), aimError('option', /one class/));
    for (const options of [{ epochs: 0 }, { rate: 2 }, { seed: -1 }, { heldOut: 1 }, { onprogress: 3 }, { head: 'tree' }, { epoch: 3 }]) await assert.rejects(lesson.train(options), aimError('option'), JSON.stringify(options));
    await assert.rejects(lesson.export({ pictures: true, compact: true }), aimError('option'));
    assert.deepEqual({ ...lesson.counts }, { a: 1 });
    await aim.dispose();
  });

  test('a training that is aborted, a second one beside it, a lesson that ends in it: nothing is lost', async () => {
    const counts = reset();
    const aim = await load({ trainMs: 40 });
    const lesson = await lessonOf(aim);
    const reason = new Error('enough');
    await assert.rejects(lesson.train({ signal: soon(reason) }), (error) => error === reason);
    await assert.rejects(lesson.train({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
    assert.deepEqual({ ...lesson.counts }, { a: 2, b: 2 });
    const first = lesson.train();
    await assert.rejects(lesson.train(), aimError('option', /under way/));
    // Pictures are named and added meanwhile.
    await Promise.all([aim.classify(picture), lesson.add('c', picture)]);
    await first;
    assert.deepEqual(lesson.classifier.labels, ['a', 'b']);
    const last = lesson.train();
    await sleep(10);
    const kept = lesson.classifier;
    await lesson.dispose();
    await assert.rejects(last, aimError('disposed'));
    await assert.rejects(lesson.add('a', picture), aimError('disposed'));
    assert.throws(() => lesson.classifier, aimError('disposed'));
    // What was taken from it stays.
    await kept.classify(picture);
    const another = await lessonOf(aim);
    const ended = another.train();
    await sleep(10);
    await aim.dispose();
    await assert.rejects(ended, aimError('disposed'));
    assert.equal(counts.training.aborted, true);
    assert.deepEqual({ ...another.counts }, { a: 2, b: 2 });
  });

  test('what is under way when it begins anew is not of it', async () => {
    reset();
    const aim = await load();
    const lesson = await lessonOf(aim);
    await lesson.train();
    const all = await lesson.export({ pictures: true });
    for (const begin of [() => lesson.add('c', picture), () => lesson.train(), () => lesson.import(all)]) {
      const ended = assert.rejects(begin(), { name: 'AbortError' });
      await lesson.reset();
      await ended;
      assert.deepEqual({ ...lesson.counts }, {});
      assert.throws(() => lesson.classifier, aimError('option'));
      await lesson.import(all);
      assert.deepEqual({ ...lesson.counts }, { a: 2, b: 2 });
    }
    await aim.dispose();
  });

  test('a GPU that is lost in the training: the lesson and its heads go on, on the CPU', async () => {
    const counts = reset();
    gpu(HARDWARE);
    const aim = await load();
    const lesson = await lessonOf(aim);
    await lesson.train();
    assert.equal(counts.lessons.at(-1).build, 'webgpu');
    counts.destroy();
    await lesson.classifier.classify(picture);
    assert.deepEqual(counts.heads, ['webgpu', 'webgpu']);
    await aim.dispose();

    const twice = await load({ loseIn: { webgpu: true } });
    const other = await lessonOf(twice);
    await other.train();
    assert.equal(twice.device, 'wasm');
    assert.match(counts.lessons.at(-1).build, /^cpu/);
    assert.deepEqual(other.classifier.labels, ['a', 'b']);
    await twice.dispose();
    gpu(undefined);
  });
});

describe('files', () => {
  test('a head is a model by itself, on the trunk that it names or another one', async () => {
    const counts = reset();
    const aim = await load();
    const lesson = await lessonOf(aim);
    await lesson.train();
    const blob = await lesson.export();
    // A model in memory has no name to be found by, nor has a folder of another machine.
    await assert.rejects(AimClassifier.fromPretrained(blob, { wasmUrl }), aimError('option', /taught on 'model in memory', which can't be fetched.* option trunk/));
    const elsewhere = file({ __metadata__: { 'aim.config': JSON.stringify({ trunk: { name: '/home/me/model', sha256: 'mock' } }) }, 'head.k': { dtype: 'U8', shape: [0], data_offsets: [0, 0] } });
    await assert.rejects(AimClassifier.fromPretrained(elsewhere, { wasmUrl }), aimError('option', /'\/home\/me\/model'/));
    const trunk = mockModel();
    const again = await AimClassifier.fromPretrained(blob, { wasmUrl, trunk });
    assert.deepEqual(again.labels, ['a', 'b']);
    await again.classify(picture);
    assert.equal(counts.loads.at(-1).options.trunk, undefined);
    // The revision of the one repository is not the other's.
    const onHub = file({ __metadata__: { 'aim.config': JSON.stringify({ trunk: { name: 'user/repo@abc', sha256: 'mock' } }) }, 'head.k': { dtype: 'U8', shape: [0], data_offsets: [0, 0] } });
    for (const [trunk, model, revision] of [[undefined, 'user/repo', 'abc'], ['other/mirror', 'other/mirror', undefined], ['other/mirror@v2', 'other/mirror', 'v2']]) {
      await assert.rejects(AimClassifier.fromPretrained(onHub, { wasmUrl, trunk, revision: undefined }));
      const { options } = counts.loads.pop();
      assert.deepEqual([options.model, options.revision], [model, revision]);
    }
    // And it can be taught further.
    await (await lessonOf(again)).train();
    assert.equal(counts.loads.length, 2);
    await again.dispose();
    assert.ok((await lesson.export({ compact: true })).size > 0);
    await aim.dispose();
  });

  test('pictures go along when they are asked for, and a lesson goes on with them', async () => {
    const counts = reset();
    const aim = await load();
    const lesson = await lessonOf(aim);
    const open = await lesson.export({ pictures: true });
    await lesson.train();
    const blob = await lesson.export({ pictures: true });
    assert.ok((await lesson.export()).size < blob.size);
    const next = aim.teach();
    await next.import(open);
    assert.deepEqual({ ...next.counts }, { a: 2, b: 2 });
    assert.throws(() => next.classifier, aimError('option'));
    const both = aim.teach();
    await both.add('c', picture);
    await both.import(blob);
    assert.deepEqual({ ...both.counts }, { c: 1, a: 2, b: 2 });
    assert.deepEqual(both.classifier.labels, ['a', 'b']);
    await both.train();
    const [before, after] = counts.lessons;
    assert.deepEqual(after.features.slice(1), before.features);
    assert.deepEqual(after.labels, [0, 1, 1, 2, 2]);
    await aim.dispose();
  });

  test('a file of another trunk, rubbish, a cut file: typed errors, and nothing is lost', async () => {
    reset();
    const elsewhere = await load({ sha256: 'other' });
    const foreign = await lessonOf(elsewhere);
    await foreign.train();
    const [head, open] = [await foreign.export(), await foreign.export({ pictures: true })];
    await elsewhere.dispose();
    const aim = await load();
    const lesson = await lessonOf(aim);
    for (const blob of [head, open]) await assert.rejects(lesson.import(blob), aimError('integrity', /another model/));
    const bytes = new Uint8Array(await open.arrayBuffer());
    const trunk = JSON.stringify({ name: 'x', sha256: 'mock' });
    for (const [blob, code] of [
      [new Blob([]), 'format'],
      [new Blob(['rubbish that is longer than a header']), 'format'],
      [new Blob([bytes.slice(0, 60)]), 'format'],
      [new Blob([bytes.slice(0, -1)]), 'format'],
      [file('{"a"'), 'format'],
      [file({}), 'format'],
      [file({ __metadata__: { 'aim.trunk': '{' } }), 'format'],
      [file({ __metadata__: { 'aim.trunk': trunk } }), 'format'],
      [file({ __metadata__: { 'aim.trunk': trunk, 'aim.lesson': '{}' }, 'lesson.features': { dtype: 'F16', shape: [1, 2], data_offsets: [0, 4] } }, new Uint8Array(4)), 'format'],
      [file({ __metadata__: { 'aim.trunk': trunk, 'aim.lesson': JSON.stringify({ classes: ['a'], labels: [5], pictures: [0] }) }, 'lesson.features': { dtype: 'F16', shape: [1, 2], data_offsets: [0, 4] } }, new Uint8Array(4)), 'option'],
      [file({ __metadata__: { 'aim.trunk': trunk, 'aim.refuse': 'yes' }, 'head.k': { dtype: 'U8', shape: [0], data_offsets: [0, 0] } }), 'integrity'],
      ['no blob', 'option'],
    ]) await assert.rejects(lesson.import(blob), aimError(code), String(blob));
    assert.deepEqual({ ...lesson.counts }, { a: 2, b: 2 });
    await assert.rejects(AimClassifier.fromPretrained(new Blob(['rubbish that is longer than a header']), { wasmUrl }), aimError('format', /no file of a lesson/));
    await assert.rejects(AimClassifier.fromPretrained(open.slice(0, 0), { wasmUrl }), aimError('format'));
    await assert.rejects(AimClassifier.fromPretrained(file({ __metadata__: null, 'head.k': { dtype: 'U8', shape: [0], data_offsets: [0, 0] } }), { wasmUrl }), aimError('format', /does not say which model/));
    // As one that was moved since it was chosen.
    const moved = Object.assign(new Blob(), { arrayBuffer: async () => { throw new DOMException('the file is gone', 'NotReadableError'); } });
    await assert.rejects(lesson.import(moved), aimError('not_found', /could not be read: the file is gone. Choose it again/));
    await aim.dispose();
  });
});
