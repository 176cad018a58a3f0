import type { RawProgress } from './glue.js';

/**
 * The events that `progress_callback` gets, in transformers.js's terms.
 *
 * A load ends with `warmup` (unless it was switched off) and `ready`. Bytes from the cache count as
 * loaded.
 */
export type ProgressEvent =
  | { status: 'initiate' | 'download' | 'done'; name: string; file: string }
  | { status: 'progress'; name: string; file: string; loaded: number; total: number; progress: number }
  | { status: 'progress_total'; name: string; loaded: number; total: number; progress: number }
  | { status: 'warmup' | 'ready'; name: string };

/**
 * Keeps the promises of `progress_callback` whatever happens below: nothing above 100, nothing that
 * falls (not even when a load starts over on another device), each stage of a file once, `ready` once.
 */
export class Progress {
  readonly #report: (event: ProgressEvent) => void;
  readonly #name: string;
  readonly #seen = new Set<string>();
  readonly #best = new Map<string, number>();

  constructor(name: string, report: (event: ProgressEvent) => void) {
    this.#name = name;
    this.#report = report;
  }

  /** Takes an event of the wasm module. */
  take(event: RawProgress): void {
    const file = event.file ?? '';
    switch (event.status) {
      case 'initiate':
      case 'download':
      case 'done':
        if (this.#once(`${event.status} ${file}`)) this.#report({ status: event.status, name: this.#name, file });
        break;
      case 'progress':
      case 'progress_total': {
        const key = event.status === 'progress' ? file : '';
        const total = Math.max(0, event.total ?? 0);
        const loaded = Math.min(Math.max(0, event.loaded ?? 0), total);
        const progress = Math.max(this.#best.get(key) ?? 0, total === 0 ? 0 : (loaded / total) * 100);
        this.#best.set(key, progress);
        const numbers = { name: this.#name, loaded, total, progress };
        this.#report(
          event.status === 'progress' ? { status: 'progress', file, ...numbers } : { status: 'progress_total', ...numbers },
        );
        break;
      }
      case 'warmup':
        if (this.#once('warmup')) this.#report({ status: 'warmup', name: this.#name });
        break;
      // The wasm module's `ready` comes too early for the page: ready() reports it.
    }
  }

  /** The classifier is usable. */
  ready(): void {
    if (this.#once('ready')) this.#report({ status: 'ready', name: this.#name });
  }

  #once(key: string): boolean {
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    return true;
  }
}
