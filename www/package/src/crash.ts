/**
 * A trap inside a future of the wasm module reaches nobody's promise: whoever waits would wait for good. A worker
 * hears of it by its global events and passes it on to all who wait.
 */
const waiting = new Set<(error: unknown) => void>();

/** The result of `work`, or the trap that keeps it from ever ending. */
export async function orCrash<T>(work: Promise<T>): Promise<T> {
  let give!: (error: unknown) => void;
  const crash = new Promise<never>((_, reject) => {
    give = reject;
  });
  waiting.add(give);
  try {
    return await Promise.race([work, crash]);
  } finally {
    waiting.delete(give);
  }
}

/** Tells all who wait now. */
export function crashed(error: unknown): void {
  for (const give of waiting) give(error);
}
