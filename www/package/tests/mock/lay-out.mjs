// Lays the mock out as pkg-scripts/build-wasm.sh lays out the real builds.
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Returns the `wasmUrl` of the mock builds. */
export function mockWasm(folder = mkdtempSync(join(tmpdir(), 'aim-web-mock-'))) {
  for (const build of ['webgpu', 'cpu', 'cpu-relaxed', 'cpu-threads', 'pictures']) {
    mkdirSync(join(folder, build), { recursive: true });
    copyFileSync(new URL('./glue.js', import.meta.url), join(folder, build, 'aim_web.js'));
    // The smallest module there is: the magic and the version.
    writeFileSync(join(folder, build, 'aim_web_bg.wasm'), Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return pathToFileURL(`${folder}/`).href;
}

/** A model in memory whose faults are `mock`. */
export function mockModel(mock = {}, labels = ['a', 'b', 'c', 'd']) {
  return { 'config.json': JSON.stringify({ mock }), 'labels.json': JSON.stringify(labels), 'model.safetensors': Uint8Array.of(1, 2, 3, 4) };
}
