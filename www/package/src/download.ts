import { AimError, abortReason, messageOf } from './errors.js';

/** A piece of a body. */
export type Piece = Uint8Array<ArrayBuffer>;

/** Reads a body to its end. */
type Read = (response: Response, take: (piece: Piece) => void) => Promise<void>;

/** Reads a body to its end, piece by piece. When the signal fires, or `take` throws, the body is cancelled. */
export async function readBody(response: Response, take: (piece: Piece) => void, signal?: AbortSignal): Promise<void> {
  return response.body?.pipeTo(new WritableStream({ write: take }), { signal: signal! });
}

/**
 * Fetches `url` and gives the answer to `use`, which reads it by `read`. It ends when `stop` fires, which it also does
 * for a server that sends nothing for `stall` seconds.
 *
 * @param hint - What may be wrong if the server is not reached.
 */
export async function download<T>(url: string, stop: AbortController, stall: number, hint: string, use: (response: Response, read: Read) => Promise<T>): Promise<T> {
  const failed = `${url} could not be fetched: `;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(new AimError('network', `${failed}the server sent nothing for ${stall} seconds. Try again`)), stall * 1000);
  };
  const read = async (response: Response, take: (piece: Piece) => void) => {
    await readBody(response, (piece) => (wait(), take(piece)));
    clearTimeout(timer);
  };
  try {
    wait();
    const response = await fetch(url, { signal: stop.signal });
    const { ok, status } = response;
    if (!ok) throw new AimError(status === 404 || status === 410 ? 'not_found' : 'network', `${failed}the server answered ${status}. ${hint}`);
    wait();
    return await use(response, read);
  } catch (cause) {
    if (stop.signal.aborted) throw abortReason(stop.signal);
    if (cause instanceof AimError) throw cause;
    throw new AimError('network', `${failed}${messageOf(cause)}. ${hint}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}
