// Starts the system's Firefox, which is driven by WebDriver BiDi.
import { existsSync } from 'node:fs';
import puppeteer from 'puppeteer-core';
import { launch } from './chrome.mjs';

const PLACES = [process.env.FIREFOX, '/usr/bin/firefox-esr', '/usr/bin/firefox', '/Applications/Firefox.app/Contents/MacOS/firefox'];

/** Where Firefox is, or undefined. */
export const FIREFOX = PLACES.find((path) => path && existsSync(path));

/** A Firefox with the part of Playwright's interface that tests for both browsers use. */
export async function launchFirefox() {
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: FIREFOX, headless: true });
  return {
    async newContext() {
      const context = await browser.createBrowserContext();
      return {
        newPage: async () => adapt(await context.newPage(), context),
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
}

function adapt(page, context) {
  const { evaluate } = page;
  return Object.assign(page, {
    context: () => context,
    // BiDi has no functions that take undefined.
    evaluate: (body, argument) => evaluate.call(page, body, ...(argument === undefined ? [] : [argument])),
    waitForFunction: async (body, argument, { timeout = 30_000 } = {}) => {
      for (const end = Date.now() + timeout; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
        if (await page.evaluate(body, argument)) return;
        if (Date.now() > end) throw new Error(`nothing for ${timeout} ms`);
      }
    },
  });
}

/** What starts each browser that is here, for tests without WebGPU. */
export const BROWSERS = { Chromium: () => launch({ webgpu: 'off' }), ...(FIREFOX && { Firefox: launchFirefox }) };
