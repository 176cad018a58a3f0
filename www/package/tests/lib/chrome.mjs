// Starts the system's Chromium, which has what the tests need and no download of its own.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const PLACES = [process.env.CHROME, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'];

/** Where Chromium is, or undefined. */
export const CHROME = PLACES.find((path) => path && existsSync(path));

const QUIET = ['--no-sandbox', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const GPU = {
  software: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
  hardware: ['--enable-unsafe-webgpu'],
  off: ['--disable-features=WebGPU'],
};

/** `webgpu`: 'software' for Chromium's software adapter, 'hardware' for what there is, 'off' for none. */
export function launch({ webgpu = 'software', args = [] } = {}) {
  // Playwright's own headless switch names an older mode, and its --disable-gpu takes WebGPU away.
  return chromium.launch({ executablePath: CHROME, headless: false, args: ['--headless=new', ...QUIET, ...GPU[webgpu], ...args], ignoreDefaultArgs: ['--disable-gpu', '--enable-automation'] });
}
