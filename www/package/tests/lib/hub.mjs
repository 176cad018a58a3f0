// The server of tests/hub: behaves like the hub, and misbehaves on command.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const tree = fileURLToPath(new URL('../../../../', import.meta.url));

/** The program; it is built with the native tests, else here. */
const HUB = process.env.AIM_HUB ?? `${tree}target/release/examples/hub`;

/** Serves `root/USER/NAME` as repositories. */
export async function hub(root) {
  if (!existsSync(HUB)) execFileSync('cargo', ['build', '--release', '--workspace', '--locked', '--example', 'hub'], { cwd: tree, stdio: 'inherit' });
  const server = spawn(HUB, [root], { stdio: ['ignore', 'pipe', 'inherit'] });
  const endpoint = await new Promise((resolve, reject) => {
    createInterface(server.stdout).once('line', resolve);
    server.once('error', reject).once('exit', (code) => reject(new Error(`${HUB} ended with ${code}`)));
  });
  const command = async (text) => {
    const response = await fetch(`${endpoint}/-/${text}`);
    if (!response.ok) throw new Error(`the hub knows no ${text}`);
    return response.json();
  };
  return {
    endpoint,
    /** From here on, does this wrong: `fault=cut&n=1000`. */
    fault: (plan) => command(`fault?${plan}`),
    /** From here on, behaves; forgets what it did. */
    reset: () => command('reset'),
    /** `{ sent, requests }` since the last reset; `sent` counts bytes of weights. */
    log: () => command('log'),
    close: () => server.kill(),
  };
}
