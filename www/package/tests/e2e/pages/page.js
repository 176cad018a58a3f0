// What tests use inside the page.
import './lose.js';
import * as lib from '/pkg/dist/index.js';

globalThis.lib = lib;
globalThis.SMALL = new URL('/small/', location.href).href;

/** A picture drawn by code: opaque, with detail, the same everywhere. */
globalThis.testCanvas = (width = 160, height = 120, type = 'html') => {
  const canvas = type === 'offscreen' ? new OffscreenCanvas(width, height) : Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  const image = context.createImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      image.data.set([(x * 7 + y * 3) & 255, (x * y) & 255, (x ^ y) & 255, 255], i);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
};

globalThis.pixelsOf = (canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
globalThis.pngOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));

/** The largest difference of two lists. */
globalThis.difference = (a, b) => (a.length === b.length ? Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]))) : Infinity);

/** How a promise ends: an error as plain values. */
globalThis.outcome = async (promise) => {
  try {
    const value = await promise;
    return { ok: true, value: value === undefined || value === null ? value : Array.isArray(value) ? value : typeof value };
  } catch (error) {
    return { ok: false, aim: error instanceof lib.AimError, name: error.name, code: error.code, message: error.message };
  }
};

globalThis.loaded = (element, event = 'load') => new Promise((resolve, reject) => {
  element.addEventListener(event, () => resolve(element), { once: true });
  element.addEventListener('error', () => reject(new Error(`${element.tagName} failed`)), { once: true });
});
globalThis.ready = true;
