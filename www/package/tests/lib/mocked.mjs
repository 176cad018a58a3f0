// What unit tests of the whole package share: it runs against a mock of the wasm module.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after } from 'node:test';
import { AimClassifier, AimError } from '../../dist/index.js';
import { mockModel, mockWasm } from '../mock/lay-out.mjs';

export const wasmUrl = mockWasm();
export const picture = { data: Uint8Array.of(10, 200, 30, 255), width: 1, height: 1 };

/** Loads the mock's model, whose faults are `mock`. */
export const load = (mock, options) => AimClassifier.fromPretrained(mockModel(mock), { wasmUrl, ...options });

/** For `assert.rejects`. */
export const aimError = (code, text = /./) => (error) => {
  assert.ok(error instanceof AimError, `an AimError, not ${error}`);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
  return true;
};

/** Gives this runtime a GPU, or none. */
export function gpu(adapter) {
  Object.defineProperty(globalThis.navigator ?? (globalThis.navigator = {}), 'gpu', { value: adapter && { requestAdapter: async () => adapter }, configurable: true });
}
export const HARDWARE = { info: { vendor: 'acme', architecture: 'gen9', description: '', isFallbackAdapter: false } };
export const SOFTWARE = { info: { vendor: 'google', architecture: 'swiftshader', description: '' } };

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A signal that fires soon. AbortSignal.timeout() would not keep Node waiting. */
export function soon(reason = new DOMException('Time is up.', 'TimeoutError')) {
  const stop = new AbortController();
  setTimeout(() => stop.abort(reason), 20);
  return stop.signal;
}

/** A server that answers with `answer(request, response)`, until the tests end. */
export async function serve(answer) {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => (server.closeAllConnections(), server.close()));
  return `http://127.0.0.1:${server.address().port}/`;
}

/** What the mock saw, from now on. Without a GPU. */
export function reset() {
  gpu(undefined);
  return (globalThis.__mockCounts = { loads: [], frees: 0 });
}
