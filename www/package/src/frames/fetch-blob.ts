import { AimError, abortReason, messageOf } from '../errors.js';
import { dataUrl } from '../data-url.js';
import { readFileUrl } from '../files.js';
import { checkBytes } from './limits.js';

/** The file at a URL, until `stop` fires, which it also does for a server that sends nothing for `stall` seconds. */
export async function fetchBlob(url: string, stop: AbortController, stall = 30): Promise<Blob> {
  const inline = dataUrl(url);
  if (inline) return new Blob([inline.bytes], { type: inline.type });
  if (url.startsWith('file:')) {
    const bytes = await readFileUrl(url);
    if (!bytes) throw new AimError('not_found', `there is no picture at ${url}`);
    return new Blob([bytes]);
  }
  const failed = `the picture at ${url} could not be fetched: `;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(new AimError('network', `${failed}the server sent nothing for ${stall} seconds. Try again`)), stall * 1000);
  };
  try {
    wait();
    const { ok, status, headers, body } = await fetch(url, { signal: stop.signal });
    if (!ok) throw new AimError(status === 404 || status === 410 ? 'not_found' : 'network', `${failed}the server answered ${status}`);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    for (const reader = body?.getReader(); ; ) {
      wait();
      const part = (await reader?.read())?.value;
      if (!part) return new Blob(parts, { type: headers.get('content-type') ?? '' });
      checkBytes((size += part.byteLength));
      parts.push(part);
    }
  } catch (cause) {
    if (stop.signal.aborted) throw abortReason(stop.signal);
    if (cause instanceof AimError) throw cause;
    throw new AimError('network', `${failed}${messageOf(cause)}. It may be offline, or of another origin that allows no reading (CORS)`, { cause });
  } finally {
    clearTimeout(timer);
  }
}
