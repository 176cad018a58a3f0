// The examples for Node, Deno and workerd, run as a reader would run them.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { serve } from './lib/server.mjs';
import { AIM_BENCH, PACKAGE, photograph, site } from './lib/site.mjs';
import { asTorch, smallModel, writeFiles } from './lib/small-model.mjs';

const run = promisify(execFile);
const LABELS = ['2', '5', 'dress', 'shoes'];
const PICTURES = `${PACKAGE}../../tests/pictures/`;
/** Every kind of every format, and a photograph that its EXIF orientation turns. */
const FILES = [...readdirSync(`${PICTURES}formats`).map((name) => `formats/${name}`), 'exif_rot6.jpg'].map((name) => `${PICTURES}${name}`);

/** What the native program says of files. */
function natively(files, dtype) {
  const output = execFileSync(AIM_BENCH, ['classify', '--json', '--device', 'cpu', '--dtype', dtype, '--top-k', '1000', ...files], { encoding: 'utf8' });
  return JSON.parse(output).map(({ predictions }) => predictions);
}

/** A model of 2 GB as far as its header says; nobody should come to read it. */
async function hugeModel() {
  const d = 1536;
  const header = {};
  let offset = 0;
  const add = (name, shape) => {
    const bytes = shape.reduce((a, b) => a * b, 4);
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  };
  add('preprocessor.patchifier.proj.weight', [d, 3, 14, 14]);
  for (const part of ['proj.bias', 'norm.weight', 'norm.bias']) add(`preprocessor.patchifier.${part}`, [d]);
  for (let i = 0; i < 24; i++) {
    for (const norm of ['norm_1', 'norm_2']) for (const part of ['weight', 'bias']) add(`trunk.blocks.${i}.${norm}.${part}`, [d]);
    add(`trunk.blocks.${i}.attn.qkv.weight`, [3 * d, d]);
    add(`trunk.blocks.${i}.attn.proj.weight`, [d, d]);
    add(`trunk.blocks.${i}.mlp.fc1.weight`, [4 * d, d]);
    add(`trunk.blocks.${i}.mlp.fc2.weight`, [d, 4 * d]);
  }
  for (const part of ['weight', 'bias']) add(`trunk.post_trunk_norm.${part}`, [d]);
  for (const part of ['running_mean', 'running_var']) add(`head.bn.${part}`, [d]);
  add('head.cls_token', [1, 1, d]);
  add('head.k.weight', [d, d]);
  add('head.v.weight', [d, d]);
  add('head.linear.weight', [1000, d]);
  const text = JSON.stringify(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  const head = Buffer.concat([start, Buffer.from(text)]);
  const total = head.length + offset;
  const config = { embed_dim: d, img_size: 224, num_blocks: 24, num_channels: 3, num_classes: 1000, num_heads: 12, patch_size: 14, probe_layers: 6 };
  let sent = 0;
  const served = await serve({}, {
    answer(url, request, response) {
      if (url.pathname === '/config.json') return response.end(JSON.stringify(config)), true;
      if (url.pathname !== '/model.safetensors') return false;
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
      assert.ok(range, 'a model of 2 GB is asked for by ranges');
      const from = Number(range[1]);
      const to = Math.min(Number(range[2]), total - 1);
      response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${total}`, 'content-length': to - from + 1, etag: '"huge"' });
      let at = from;
      const push = () => {
        while (at <= to) {
          const piece = at < head.length ? head.subarray(at, Math.min(head.length, to + 1)) : Buffer.alloc(Math.min(1 << 20, to + 1 - at));
          at += piece.length;
          sent += piece.length;
          if (!response.write(piece)) return response.once('drain', push);
        }
        response.end();
      };
      push();
      return true;
    },
  });
  return { ...served, sent: () => sent };
}

/** A site with one model in two folders: as safetensors, and as torch.save writes it. */
async function bothForms() {
  const folder = mkdtempSync(`${tmpdir()}/aim-web-forms-`);
  const model = smallModel();
  writeFiles(`${folder}/safetensors`, model);
  writeFiles(`${folder}/torch`, asTorch(model));
  const served = await site({ mounts: { '/forms/': `${folder}/` } });
  const close = async () => {
    await served.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { folder, url: `${served.url}forms/`, close };
}

function checkLines(output, label) {
  const lines = output.trim().split('\n');
  assert.equal(lines.length, 5);
  assert.match(lines[0], new RegExp(`^0\\.\\d{4} ${label}$`));
}

describe('node', () => {
  const node = (...args) => run(process.execPath, ['examples/node/classify.mjs', ...args], { cwd: PACKAGE });

  for (const label of LABELS) {
    test(`names ${label}`, async () => {
      const { stdout, stderr } = await node(photograph(label));
      assert.equal(stderr, '');
      checkLines(stdout, label);
    });
  }

  test('decodes PNG, WebP, GIF and BMP as natively, and turns what is turned', async () => {
    const { AimClassifier } = await import('../dist/index.js');
    const aim = await AimClassifier.fromPretrained(undefined, { dtype: 'fp32' });
    const expected = natively(FILES, 'fp32');
    for (const [i, file] of FILES.entries()) {
      const scores = Object.fromEntries((await aim.classify(readFileSync(file), { top_k: 1000 })).map(({ label, score }) => [label, score]));
      for (const { label, score } of expected[i]) assert.ok(Math.abs(scores[label] - score) < 1e-4, `${file}: ${label} ${scores[label]}, natively ${score}`);
    }
    const broken = readFileSync(FILES.find((file) => file.endsWith('lossless.webp')));
    await assert.rejects(aim.classify(broken.subarray(0, broken.length / 2)), { code: 'image' });
    await aim.dispose();
  });

  test('a model from a folder and from a server', async () => {
    const served = await site();
    try {
      const { stdout } = await node(photograph('hat'), `${served.url}small/`);
      assert.match(stdout, /class \d+\n/);
    } finally {
      await served.close();
    }
    await assert.rejects(node(photograph('hat'), 'file:///nowhere/'), (error) => error.code === 1 && /not_found/.test(error.stderr));
  });

  test('a model that torch.save wrote, from a folder and from a server', async () => {
    const forms = await bothForms();
    try {
      const { stdout: expected } = await node(photograph('hat'), `${forms.url}safetensors/`);
      assert.match(expected, /class \d+\n/);
      for (const place of [`${forms.url}torch/`, `file://${forms.folder}/torch/`]) {
        assert.equal((await node(photograph('hat'), place)).stdout, expected, place);
      }
    } finally {
      await forms.close();
    }
  });
});

describe('deno', () => {
  const deno = (...args) =>
    run(`${PACKAGE}node_modules/.bin/deno`, ['run', '--no-remote', '--allow-read', '--allow-net', '--allow-env', '--config', 'examples/deno/deno.json', 'examples/deno/classify.js', ...args], {
      cwd: PACKAGE,
      // Without the last, the Vulkan loader writes to standard error.
      env: { ...process.env, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1', XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() },
    });

  test('names a picture', async () => {
    const { stdout, stderr } = await deno(photograph('5'));
    checkLines(stdout, '5');
    assert.equal(stderr, '');
  });

  test('names a PNG', async () => {
    const file = `${PICTURES}rgba.png`;
    const [[best]] = natively([file], 'auto');
    const { stdout } = await deno(file);
    const [score, label] = stdout.split('\n')[0].split(' ');
    assert.equal(label, best.label);
    // 8 bits on two kinds of processor.
    assert.ok(Math.abs(score - best.score) < 0.01, `${score}, natively ${best.score}`);
  });

  test('a model that torch.save wrote', async () => {
    const forms = await bothForms();
    try {
      const [expected, torch] = [await deno(photograph('hat'), `${forms.url}safetensors/`), await deno(photograph('hat'), `${forms.url}torch/`)];
      assert.match(expected.stdout, /class \d+\n/);
      assert.equal(torch.stdout, expected.stdout);
    } finally {
      await forms.close();
    }
  });
});

describe('workerd', () => {
  let server;
  let url;
  let log = '';

  before(async () => {
    const port = await new Promise((resolve) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const { port: free } = probe.address();
        probe.close(() => resolve(free));
      });
    });
    url = `http://127.0.0.1:${port}/`;
    server = spawn(`${PACKAGE}node_modules/.bin/workerd`, ['serve', 'config.capnp', '--socket-addr', `http=127.0.0.1:${port}`], { cwd: `${PACKAGE}examples/workerd` });
    server.stderr.on('data', (data) => (log += data));
    for (let i = 0; i < 100; i++) {
      if (await fetch(url).then(() => true, () => false)) return;
      if (server.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail(`workerd does not answer: ${log}`);
  });
  after(() => server?.kill());

  const post = async (body, query = '') => {
    const response = await fetch(url + query, { method: 'POST', body });
    const text = await response.text();
    assert.match(response.headers.get('content-type') ?? '', /json/, `${response.status}: ${text}\n${log}`);
    return JSON.parse(text);
  };

  for (const label of LABELS) {
    test(`the embedded model names a posted photograph of ${label}`, async () => {
      const result = await post(readFileSync(photograph(label)));
      assert.equal(result.length, 5, JSON.stringify(result));
      assert.equal(result[0].label, label);
    });
  }

  test('a posted PNG, WebP, GIF and BMP', async () => {
    const files = ['p8.bmp', 'la16.png', 'lossy30.webp', 'interlaced.gif'].map((name) => `${PICTURES}formats/${name}`);
    const expected = natively(files, 'auto');
    const results = await Promise.all(files.map((file) => post(readFileSync(file))));
    results.forEach(([best], i) => {
      assert.equal(best.label, expected[i][0].label, files[i]);
      assert.ok(Math.abs(best.score - expected[i][0].score) < 0.01, files[i]);
    });
  });

  test('without the module that decodes them: an error that names it', async () => {
    const { AimClassifier } = await import('../dist/workerd.js');
    const file = (name) => readFileSync(`${PACKAGE}models/aim-tiny/${name}`);
    const model = { 'config.json': file('config.json'), 'labels.json': file('labels.json'), 'model.safetensors': file('model-00001-of-00001.safetensors') };
    const wasmModule = await WebAssembly.compile(readFileSync(`${PACKAGE}wasm/cpu/aim_web_bg.wasm`));
    const aim = await AimClassifier.fromPretrained(model, { wasmModule });
    await assert.rejects(aim.classify(readFileSync(`${PICTURES}rgba.png`)), { code: 'option', message: /picturesModule.*wasm\/pictures/ });
    assert.equal((await aim.classify(readFileSync(photograph('5'))))[0].label, '5');
    await aim.dispose();
    await assert.rejects(AimClassifier.fromPretrained(model, { wasmModule, picturesModule: {} }), { code: 'option', message: /picturesModule/ });
  });

  test('several requests at once', async () => {
    const results = await Promise.all([...LABELS, ...LABELS].map((label) => post(readFileSync(photograph(label)))));
    assert.deepEqual(results.map(([best]) => best.label), [...LABELS, ...LABELS]);
  });

  test('bytes that are no picture', async () => {
    assert.equal((await post('nothing')).code, 'image');
    assert.equal((await post(readFileSync(photograph('5'))))[0].label, '5');
  });

  test('a photograph that would end the isolate: out_of_memory', async () => {
    // Nobody reads past the header, which says 4000 x 3000.
    const result = await post(Uint8Array.of(0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0x0b, 0xb8, 0x0f, 0xa0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1));
    assert.equal(result.code, 'out_of_memory', result.message);
    assert.match(result.message, /4000 x 3000.*4 million/);
  });

  test('a model that torch.save wrote', async () => {
    const forms = await bothForms();
    const classify = (form) => post(readFileSync(photograph('hat')), `?model=${encodeURIComponent(`${forms.url}${form}/`)}`);
    try {
      const expected = await classify('safetensors');
      assert.match(expected[0].label, /class \d+/);
      assert.deepEqual(await classify('torch'), expected);
    } finally {
      await forms.close();
    }
  });

  test('a model over 128 MB: out_of_memory at once, not after its download', async () => {
    const huge = await hugeModel();
    try {
      const result = await post(readFileSync(photograph('hat')), `?model=${encodeURIComponent(huge.url)}`);
      assert.equal(result.code, 'out_of_memory', result.message);
      assert.match(result.message, /128 MB/);
      assert.ok(huge.sent() < 100e6, `${huge.sent()} bytes were sent`);
    } finally {
      await huge.close();
    }
  });
});
