import { AimError } from './errors.js';

/**
 * What a `data:` URL holds, by the Fetch standard; undefined for another URL. Decoded here, because a page's policy
 * may forbid fetching one.
 *
 * @throws AimError (`image`) for one that is malformed.
 */
export function dataUrl(url: string): { type: string; bytes: Uint8Array<ArrayBuffer> } | undefined {
  if (!/^data:/i.test(url)) return undefined;
  const [, head, body] = /^data:([^,#]*),([^#]*)/i.exec(url) ?? malformed('it has no comma');
  const percent = (text: string) => text.replace(/%([\da-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  const [type, base64] = head!.trim().split(/; *base64$/i);
  let text = percent(body!);
  if (base64 !== undefined) {
    try {
      text = atob(text);
    } catch {
      malformed('its base64 is broken');
    }
  }
  return { type: type!.startsWith(';') ? `text/plain${type}` : type!, bytes: Uint8Array.from(text, (char) => char.charCodeAt(0)) };
}

function malformed(why: string): never {
  throw new AimError('image', `the data: URL is malformed: ${why}`);
}
