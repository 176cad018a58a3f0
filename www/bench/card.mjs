import { launch } from '../package/tests/lib/chrome.mjs';

/** Whether Chromium has a graphics card here; `url` is a page that is secure enough for WebGPU. */
export async function hasCard(url) {
  const browser = await launch({ webgpu: 'hardware' });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    return await page.evaluate(async () => {
      const info = (await navigator.gpu?.requestAdapter())?.info;
      return info !== undefined && !info.isFallbackAdapter && info.architecture !== 'swiftshader';
    });
  } finally {
    await browser.close();
  }
}
