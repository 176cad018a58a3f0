/** What a `data:` URL holds. Decoded here, because a page's policy may forbid fetching one. */
export function dataUrl(url: string): { type: string; bytes: Uint8Array<ArrayBuffer> } | undefined {
  const match = /^data:([^,]*?)(;base64)?,(.*)$/s.exec(url);
  if (!match) return undefined;
  const body = decodeURIComponent(match[3] ?? '');
  const bytes = match[2] ? Uint8Array.from(atob(body), (char) => char.charCodeAt(0)) : new TextEncoder().encode(body);
  return { type: match[1] ?? '', bytes };
}
