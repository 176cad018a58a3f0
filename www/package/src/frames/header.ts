/** The size a picture file claims, so that a huge one is refused before it is decoded. */
export function sizeOf(bytes: Uint8Array): { width: number; height: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (ascii(bytes, 1, 'PNG')) return { width: view.getUint32(16), height: view.getUint32(20) };
    if (ascii(bytes, 0, 'GIF8')) return { width: view.getUint16(6, true), height: view.getUint16(8, true) };
    // That of OS/2 is shorter, and so are its sides.
    if (ascii(bytes, 0, 'BM')) return view.getUint32(14, true) === 12 ? { width: view.getUint16(18, true), height: view.getUint16(20, true) } : { width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) };
    if (ascii(bytes, 0, 'RIFF') && ascii(bytes, 8, 'WEBP')) return webp(bytes, view);
    if (view.getUint16(0) === 0xffd8) return jpeg(view);
  } catch (error) {
    // The header is cut off: the decoder will say so.
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

/** How far from its end a file may have what a camera adds to it. */
const TAIL = 1 << 16;

/** True of a JPEG, PNG or WebP whose end is missing: some browsers show what is there. Phones add videos to a JPEG, which says so. */
export async function isCut(head: Uint8Array, blob: Blob): Promise<boolean> {
  if (ascii(head, 0, 'RIFF')) return head.length < 8 || 8 + new DataView(head.buffer).getUint32(4, true) > blob.size;
  const text = (bytes: Uint8Array | ArrayBuffer) => new TextDecoder('latin1').decode(bytes);
  const tail = text(await blob.slice(-TAIL).arrayBuffer());
  if (head[1] === 0xd8) return !/\xff\xd9|SEFT$/.test(tail) && !/MotionPhoto|MicroVideo/.test(text(head));
  return ascii(head, 1, 'PNG') && !tail.includes('IEND');
}

function ascii(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

function webp(bytes: Uint8Array, view: DataView): { width: number; height: number } | undefined {
  if (ascii(bytes, 12, 'VP8X')) {
    return { width: 1 + (view.getUint32(24, true) & 0xffffff), height: 1 + (view.getUint32(26, true) >>> 8) };
  }
  if (ascii(bytes, 12, 'VP8L')) {
    const packed = view.getUint32(21, true);
    return { width: 1 + (packed & 0x3fff), height: 1 + ((packed >>> 14) & 0x3fff) };
  }
  if (ascii(bytes, 12, 'VP8 ')) {
    return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  }
  return undefined;
}

/** True if a JPEG says that it has to be turned or mirrored to be upright: EXIF's orientation. */
export function isTurned(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    let at = 2;
    for (;;) {
      const marker = view.getUint16(at);
      const length = view.getUint16(at + 2);
      // The picture begins, and no EXIF block came before it.
      if (marker < 0xff01 || marker === 0xffda) return false;
      if (marker === 0xffe1 && ascii(bytes, at + 4, 'Exif')) return orientation(view, at + 10) > 1;
      at += 2 + length;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return false;
  }
}

/** The tag 0x0112 of the first directory of a TIFF block; 1 is upright. */
function orientation(view: DataView, start: number): number {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  const entries = view.getUint16(directory, little);
  for (let i = 0; i < entries; i++) {
    const entry = directory + 2 + 12 * i;
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
  }
  return 1;
}

function jpeg(view: DataView): { width: number; height: number } | undefined {
  let at = 2;
  for (;;) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    // SOF0 to SOF15 hold the size; DHT, JPG and DAC share their range.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
    at += 2 + view.getUint16(at + 2);
  }
}
