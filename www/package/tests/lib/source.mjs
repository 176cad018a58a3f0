// Gives tests the single modules of src/, which dist/ bundles.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const root = fileURLToPath(new URL('../../', import.meta.url));
const out = `${root}tests/.build/${process.pid}`;

const entryPoints = readdirSync(`${root}src`, { recursive: true })
  .filter((file) => file.endsWith('.ts') && file !== 'workerd.ts')
  .map((file) => `${root}src/${file}`);
buildSync({ entryPoints, outdir: out, format: 'esm', target: 'es2022', logLevel: 'warning' });

/** Imports a module of src/ by its path without ending. */
export const source = (name) => import(`${out}/${name}.js`);
