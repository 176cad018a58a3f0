import type { Glue } from './glue.js';

/** What a thread needs: the instance it belongs to. */
export interface ThreadStart {
  /** The address of the glue. */
  glue: string;
  module: WebAssembly.Module;
  /** The memory that the threads share. */
  memory: WebAssembly.Memory;
  /** The channel on which a trap is reported. */
  alarm: string | undefined;
}

const scope = globalThis as unknown as { postMessage(message: unknown): void } & EventTarget;

scope.addEventListener('message', (event) => void serve((event as MessageEvent<ThreadStart>).data), { once: true });

/** Answers with nothing, or with what went wrong; then belongs to the pool for good. */
async function serve({ glue: url, module, memory, alarm }: ThreadStart): Promise<void> {
  let glue: Glue;
  try {
    glue = (await import(/* @vite-ignore */ /* webpackIgnore: true */ url)) as Glue;
    glue.initSync({ module, memory });
  } catch (error) {
    return scope.postMessage(String(error));
  }
  scope.postMessage(undefined);
  try {
    glue.serveThread?.();
  } catch (error) {
    // Whoever started this thread waits for its part of the work, hears nothing, and would wait for good.
    if (alarm) new BroadcastChannel(alarm).postMessage(String(error));
    throw error;
  }
}
