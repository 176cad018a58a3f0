// A head in the fragment of a link, which no server ever sees.
const KEY = '#lesson=';

/** What the model that ships with the package is called. */
const BUILT_IN = 'aim-tiny';

/** A longer one no messenger passes on whole. */
export const MOST = 60_000;

const through = async (blob, stream) => new Uint8Array(await new Response(blob.stream().pipeThrough(stream)).arrayBuffer());

/** The address of this page with a compact head in it, and the model that it is of unless that is the built-in one. */
export async function linkOf(blob, model) {
  const bytes = await through(blob, new CompressionStream('deflate-raw'));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  const query = model === BUILT_IN ? '' : `?${new URLSearchParams({ model })}`;
  return `${location.origin}${location.pathname}${query}${KEY}${text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
}

/** True if the address brings one. */
export const hasHead = () => location.hash.startsWith(KEY);

/** The head in the address. */
export async function headInAddress() {
  const text = location.hash.slice(KEY.length).replaceAll('-', '+').replaceAll('_', '/');
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return new Blob([await through(new Blob([bytes]), new DecompressionStream('deflate-raw'))]);
}
