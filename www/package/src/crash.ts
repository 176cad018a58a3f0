import { Alarm, orAbort } from './abort.js';
import { isTrap } from './errors.js';

/** Rings for the next trap. */
let alarm = new Alarm();

/**
 * The result of `work`, or the trap that stops a future of the wasm module before it. Such a trap reaches nobody's
 * promise, and whoever waits would wait for good; but the global error events report it.
 */
export function unlessTrap<T>(work: Promise<T>): Promise<T> {
  return orAbort(alarm, work);
}

/** How long after a trap another one of the same cause may come, in milliseconds: all reads of a lost device fail at once. */
const ECHO = 100;

/** Once no trap has come for a while: what is begun then is not taken for stopped by one of before. */
export async function settled(): Promise<void> {
  for (let heard; heard !== alarm; ) {
    heard = alarm;
    await new Promise((resolve) => setTimeout(resolve, ECHO));
  }
}

/** Addresses that a trap of ours has in its stack. A page may run other WebAssembly. */
const ours = new Set<string>();

/** From now on traps whose stack names `address` ring. The empty address is in every stack. */
export function listenFor(address: string): void {
  if (ours.size === 0) listen();
  ours.add(address);
}

function listen(): void {
  if (typeof addEventListener === 'function') {
    for (const type of ['error', 'unhandledrejection']) {
      addEventListener(type, (event) => {
        if (hear('reason' in event ? event.reason : (event as ErrorEvent).error)) event.preventDefault();
      });
    }
  } else {
    // Node. This event only watches: what becomes of the process is not for a package to say.
    (globalThis as { process?: { on?(event: string, listener: (error: unknown) => void): void } }).process?.on?.('uncaughtExceptionMonitor', hear);
  }
}

function hear(error: unknown): boolean {
  const stack = String((error as Error | undefined)?.stack);
  const trap = isTrap(error) && [...ours].some((address) => stack.includes(address));
  if (trap) {
    const rung = alarm;
    alarm = new Alarm();
    rung.ring(error);
  }
  return trap;
}
