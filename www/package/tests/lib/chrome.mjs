// Starts the system's Chromium, which has what the tests need and no download of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const PLACES = [process.env.CHROME, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'];

/** Where Chromium is, or undefined. */
export const CHROME = PLACES.find((path) => path && existsSync(path));

const QUIET = ['--no-sandbox', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const GPU = {
  // On a busy machine a kernel takes a processor longer than Chromium lets its GPU process hang.
  software: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-gpu-watchdog'],
  hardware: ['--enable-unsafe-webgpu'],
  off: ['--disable-features=WebGPU'],
};

/** `webgpu`: 'software' for Chromium's software adapter, 'hardware' for what there is, 'off' for none. */
export function launch({ webgpu = 'software', args = [] } = {}) {
  // Playwright's own headless switch names an older mode, and its --disable-gpu takes WebGPU away.
  return chromium.launch({ executablePath: CHROME, headless: false, args: ['--headless=new', ...QUIET, ...GPU[webgpu], ...args], ignoreDefaultArgs: ['--disable-gpu', '--enable-automation'] });
}

/** A browser with a profile that outlives it, and what kills it as a crash would. */
export async function launchProfile(profile, { webgpu = 'software' } = {}) {
  const args = ['--headless=new', ...QUIET, ...GPU[webgpu], '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'];
  // A group of its own, of which no process is left over.
  const chrome = spawn(CHROME, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  const kill = async () => {
    if (chrome.exitCode !== null || chrome.signalCode !== null) return;
    const gone = once(chrome, 'exit');
    process.kill(-chrome.pid, 'SIGKILL');
    await gone;
  };
  try {
    const address = await new Promise((resolve, reject) => {
      createInterface(chrome.stderr).on('line', (line) => {
        const [, url] = /DevTools listening on (\S+)/.exec(line) ?? [];
        if (url) resolve(url);
      });
      chrome.once('error', reject).once('exit', (code) => reject(new Error(`${CHROME} ended with ${code}`)));
    });
    return { browser: await chromium.connectOverCDP(address), kill };
  } catch (error) {
    await kill();
    throw error;
  }
}
