// Measures the package beside onnxruntime and LiteRT, in Chromium and natively, and writes docs/performance.md:
//   node www/bench/peers/measure.mjs [--places Chromium,WebGPU,native] [--sizes tiny,small] [--dtypes fp32,q8,q4] [--threads 1,2]
//       [--rounds 5] [--runs 3] [--work target/peers] [--output docs/performance.md] [--prepare-only] [--report-only]
// It needs the built package (pkg-scripts/build-wasm.sh webgpu cpu-relaxed cpu-threads; npm ci and npm run build in www/package),
// Chromium, Rust, Python 3.11 or newer with venv, and PyPI and npm the first time: 7 GB on the disk, most of it PyTorch's.
// The size 600M (20 blocks) takes long and 16 GB of memory; it goes with --dtypes q8,q4, as f32 is too large for wasm.
// What has been exported is kept in the work folder, and so are results: the page is written from all that are there of this
// machine, so places and sizes can be measured one after the other. An idle machine, please.
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { idleOrExit } from '../idle.mjs';
import { writeSection } from '../section.mjs';
import { chromium } from './browser.mjs';
import { chart } from './chart.mjs';
import { DTYPES, PLACES, contenders } from './contenders.mjs';
import { machine } from './machine.mjs';
import { native } from './native.mjs';
import * as prepare from './prepare.mjs';
import { howSection, limitSection, placeSection, ratioSection, ratios } from './report.mjs';
import { openAll, timeInTurns } from './turns.mjs';

/** Pictures before the first timed one, besides those whose results are checked: an engine still optimises. */
const WARM = 3;

const tree = fileURLToPath(new URL('../../../', import.meta.url));
const { values } = parseArgs({
  options: {
    places: { type: 'string', default: PLACES.join() },
    sizes: { type: 'string', default: 'tiny,small' },
    dtypes: { type: 'string', default: Object.keys(DTYPES).join() },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '5' },
    runs: { type: 'string', default: '3' },
    work: { type: 'string', default: `${tree}target/peers` },
    output: { type: 'string', default: `${tree}docs/performance.md` },
    'prepare-only': { type: 'boolean', default: false },
    'report-only': { type: 'boolean', default: false },
  },
});

/** The sections of the places. */
const HEADS = { Chromium: 'In Chromium', WebGPU: 'In Chromium, on WebGPU', native: 'Natively' };

/** A list of names, each of them allowed. */
function list(option, allowed) {
  const names = values[option].split(',');
  const wrong = names.find((name) => !allowed.includes(name));
  if (wrong === undefined) return names;
  console.error(`--${option}: ${wrong} is none of ${allowed.join(', ')}`);
  process.exit(2);
}

function counts(option) {
  const numbers = values[option].split(',').map(Number);
  if (numbers.every((number) => Number.isInteger(number) && number > 0)) return numbers;
  console.error(`--${option}: ${values[option]} is not a whole number above 0`);
  process.exit(2);
}

const places = list('places', PLACES);
const sizes = list('sizes', ['tiny', 'small', '600M']);
const dtypes = list('dtypes', Object.keys(DTYPES));
const threads = counts('threads');
const [rounds] = counts('rounds');
const [runs] = counts('runs');
const work = resolve(values.work);
const kept = `${work}/results.json`;

/** What is there of this machine. */
function results() {
  const found = existsSync(kept) ? JSON.parse(readFileSync(kept, 'utf8')) : undefined;
  return found?.machine === machine() ? found : { machine: machine(), places: {} };
}

const say = (text) => console.error(text);

/** Fails if the export could not make this file. */
function exported(size, file) {
  const failed = `${work}/${size}/${file}.failed`;
  if (existsSync(failed)) throw new Error(`not exported: ${readFileSync(failed, 'utf8')}`);
}

/** Installs, exports and builds; gives what each place needs to open. */
function prepared() {
  mkdirSync(work, { recursive: true });
  const python = prepare.python(work);
  const about = Object.fromEntries(sizes.map((size) => [size, prepare.models(work, size, python)]));
  const ready = {
    Chromium: () => {
      const built = prepare.builtPackage();
      prepare.npm(work);
      prepare.tiles(work);
      return { built, open: () => chromium(work) };
    },
    WebGPU: () => {
      const built = prepare.builtPackage();
      prepare.npm(work);
      return { built, open: () => chromium(work, { webgpu: true }) };
    },
    native: () => {
      const program = prepare.program();
      return { built: new Date(statSync(program).mtimeMs), open: async () => native(work, { python, program }) };
    },
  };
  return { about, where: places.map((place) => ({ place, ...ready[place]() })) };
}

async function measure({ about, where: all }) {
  for (const { place, built, open } of all) {
    const where = await open();
    try {
      const version = [where.chromium, where.adapter, prepare.versions[place]()].filter(Boolean).join(', ');
      const limits = await where.limits();
      for (const size of sizes) {
        const { pictures, classes } = about[size];
        const reference = new Float32Array(new Uint8Array(readFileSync(`${work}/${size}/logits.f32`)).buffer);
        if (reference.length !== pictures * classes) throw new Error(`${work}/${size} is not whole: delete it`);
        say(`${place}, ${size}:`);
        const asked = contenders(place, dtypes, threads).map((one) => ({ ...one, open: async () => (exported(size, one.file), where.open(one, size)) }));
        const opened = await openAll(asked, pictures, reference, WARM, say);
        const times = await timeInTurns(opened, { rounds, runs, pictures });
        for (const { run } of opened) await run?.close();
        const rows = opened.map(({ contender: { name, device, dtype, bits, threads }, about, rms, failed }, i) => ({ name, device, dtype, bits, threads, about, rms, failed, rounds: times[i] }));
        const found = results();
        found.places[place] = { ...found.places[place], version, limits, sizes: { ...found.places[place]?.sizes, [size]: { when: new Date().toISOString(), built: built.toISOString(), about: about[size], rounds, runs, rows } } };
        writeFileSync(kept, JSON.stringify(found));
      }
    } finally {
      await where.close();
    }
  }
}

function write() {
  const all = results();
  const output = resolve(values.output);
  if (!existsSync(output)) writeFileSync(output, '# Performance\n');
  writeSection(output, 'Ratios', ratioSection(all));
  for (const place of Object.keys(all.places)) writeSection(output, HEADS[place], placeSection(all, place));
  writeSection(output, 'What the machine gives', limitSection(all));
  writeSection(output, 'How it is measured', howSection(all));
  writeFileSync(`${dirname(output)}/performance.svg`, chart(ratios(all)));
}

try {
  const ready = values['report-only'] ? undefined : prepared();
  if (ready && !values['prepare-only']) {
    await idleOrExit(values.output);
    await measure(ready);
  }
  if (!values['prepare-only']) write();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
