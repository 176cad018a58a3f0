// The contenders as programs of this machine, a process for each: examples/time_picture.rs and native.py.
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('native.py', import.meta.url));

/** `python` and `program` are those of prepare.mjs. The same face as that of browser.mjs. */
export function native(work, { python, program }) {
  return {
    async open({ runtime, name, file, dtype, threads }, size) {
      const folder = `${work}/${size}`;
      const [command, args] = runtime === 'ours' ? [program, [`${folder}/${file}`, dtype, `${folder}/inputs.f32`]] : [python, [SCRIPT, name, folder, file, `${threads}`]];
      const run = converse(command, args, { RAYON_NUM_THREADS: `${threads}`, OMP_NUM_THREADS: `${threads}` });
      await run.answer();
      return { about: name, picture: (i) => run.ask(`picture ${i}`), time: (i) => run.ask(`time ${i}`), close: run.close };
    },
    limits: async () => JSON.parse(execFileSync(python, [SCRIPT, 'limits'], { encoding: 'utf8' })),
    close: async () => undefined,
  };
}

/** A program that answers each line with one line of JSON. */
function converse(command, args, variables) {
  const child = spawn(command, args, { env: { ...process.env, ...variables }, stdio: ['pipe', 'pipe', 'pipe'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  let complaint = '';
  child.stderr.on('data', (text) => (complaint = `${complaint}${text}`.slice(-2000)));
  // A program that ended cannot be written to; that it ended is reported where its answer is missed.
  child.stdin.on('error', () => undefined);
  const gone = new Promise((resolve) => child.once('error', (error) => resolve(error.message)).once('close', (code, signal) => resolve(`it ended with ${code ?? signal}: ${complaint.trim().split('\n').at(-1)}`)));
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(await gone);
    return JSON.parse(value);
  };
  return {
    answer,
    ask: (line) => (child.stdin.write(`${line}\n`), answer()),
    close: async () => {
      child.stdin.end();
      await gone;
    },
  };
}
