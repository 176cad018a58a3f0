import { listenFor } from './crash.js';
import { DirectEngine } from './direct-engine.js';
import { AimError, toWire } from './errors.js';
import type { Call, ToPage, ToWorker } from './protocol.js';

// One worker serves one classifier, so that dispose() is the end of the worker and of all its memory.
let engine: DirectEngine | undefined;
const running = new Map<number, AbortController>();

const scope = globalThis as unknown as { postMessage(message: ToPage, transfer?: Transferable[]): void } & EventTarget;

scope.addEventListener('message', (event) => {
  const message = (event as MessageEvent<ToWorker>).data;
  if ('abort' in message) running.get(message.id)?.abort();
  else void answer(message.id, message.call);
});

// Nothing else runs here.
listenFor('');
scope.postMessage({ started: true });

async function answer(id: number, call: Call): Promise<void> {
  const stop = new AbortController();
  running.set(id, stop);
  try {
    const value = await perform(id, call, stop.signal);
    const transfer = Array.isArray(value) ? value.flatMap((part: unknown) => (ArrayBuffer.isView(part) ? [part.buffer as ArrayBuffer] : [])) : [];
    scope.postMessage({ id, value, info: engine?.info, ...(call.method === 'load' && engine ? { labels: engine.labels } : {}) }, transfer);
  } catch (error) {
    scope.postMessage({ id, error: toWire(error) });
  } finally {
    running.delete(id);
  }
}

async function perform(id: number, call: Call, signal: AbortSignal): Promise<unknown> {
  if (call.method === 'load') {
    engine = await DirectEngine.load(call.options, (progress) => scope.postMessage({ id, progress }), signal, (info) => scope.postMessage({ info }));
    return undefined;
  }
  if (!engine) throw new AimError('disposed', 'the worker has no model');
  if (call.method === 'teach') return engine.teach(call.lesson, (progress) => scope.postMessage({ id, progress: { status: 'train', ...progress } }), signal);
  const args = 'frames' in call ? [call.frames, ...call.args, signal] : call.args;
  return (engine[call.method] as (...args: unknown[]) => unknown)(...args);
}
