// Builds, says what is missing, runs the tests. `npm test`: all of them; `npm run test:unit`: those that need
// neither Chromium nor wasm. A name runs the files that contain it: `npm test demo`.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CHROME } from '../tests/lib/chrome.mjs';
import { AIM_BENCH, PHOTOS, photographs } from '../tests/lib/site.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command, args) => {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

const wanted = process.argv[2];
const files = readdirSync(`${root}tests`, { recursive: true })
  .filter((file) => file.endsWith('.test.mjs') && (!wanted || file.includes(wanted)))
  .sort();
if (files.length === 0) {
  console.error(`no test file is called ${wanted}`);
  process.exit(2);
}

run(process.execPath, ['scripts/build.mjs']);
run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', 'tsconfig.json']);

if (files.some((file) => !file.startsWith('unit'))) {
  const missing = [];
  if (!CHROME) missing.push('Chromium: apt-get install chromium, or set CHROME to its path');
  for (const build of ['webgpu', 'cpu', 'cpu-relaxed', 'cpu-threads', 'pictures']) {
    const wasm = `${root}wasm/${build}/aim_web_bg.wasm`;
    // A build is hundreds of kilobytes; less is a stand-in from a unit test.
    if (!existsSync(wasm) || statSync(wasm).size < 50_000) missing.push(`www/package/wasm/${build}: run pkg-scripts/build-wasm.sh`);
  }
  if (!existsSync(`${root}models/aim-tiny/model-00001-of-00001.safetensors`)) missing.push('models/aim-tiny/model-00001-of-00001.safetensors: the embedded model');
  if (files.some((file) => file.includes('parity')) && !existsSync(AIM_BENCH)) missing.push(`${AIM_BENCH}: cargo build --release -p native-bench`);
  if (photographs().length === 0) missing.push(`test photographs: there are none in ${PHOTOS} (set AIM_WEB_PHOTOS to a folder of CLASS/*.jpg)`);
  if (missing.length > 0) {
    console.error(`The tests can't run. Missing:\n- ${missing.join('\n- ')}`);
    process.exit(1);
  }
}

// One file at a time: each starts a browser, and two would fight for the processor.
run(process.execPath, ['--test', '--test-reporter=spec', '--test-concurrency=1', '--test-timeout=600000', ...files.map((file) => `tests/${file}`)]);
