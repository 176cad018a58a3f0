import { AimError, messageOf } from '../errors.js';
import { dataUrl } from '../data-url.js';
import { readFileUrl } from '../files.js';

/** The file at a URL. */
export async function fetchBlob(url: string, signal?: AbortSignal): Promise<Blob> {
  const inline = dataUrl(url);
  if (inline) return new Blob([inline.bytes], { type: inline.type });
  if (url.startsWith('file:')) {
    const bytes = await readFileUrl(url);
    if (!bytes) throw new AimError('not_found', `there is no picture at ${url}`);
    return new Blob([bytes]);
  }
  let response: Response;
  try {
    response = await fetch(url, signal ? { signal } : {});
    if (response.ok) return await response.blob();
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new AimError('network', `the picture at ${url} could not be fetched: ${messageOf(cause)}. It may be offline, or of another origin that allows no reading (CORS)`, { cause });
  }
  const missing = response.status === 404 || response.status === 410;
  throw new AimError(missing ? 'not_found' : 'network', `the picture at ${url} could not be fetched: the server answered ${response.status}`);
}
