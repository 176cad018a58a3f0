// Gives the imports and exports of a wasm module short names, there and in its glue. wasm-bindgen's carry a hash each,
// which no compression makes smaller: they are an eighth of the JavaScript of a page. By short names any two versions would
// fit together: so that of one import says which glue it is.
import { createHash } from 'node:crypto';

/** What the first import is called, with a hash of the glue in place of the zeros. */
const MARK = 'i0_00000000';
/** Names that the package itself looks for (see src/device.ts), and that with the hash. */
const KEPT = /requestAdapter|^memory$|^i0_[\da-f]{8}$/;
const IMPORTS = 2;
const EXPORTS = 7;

/** `{ wasm, glue }` with short names; what has them already comes back as it is. */
export function shorten(wasm, glue) {
  const names = new Map();
  const short = (name, prefix) => {
    if (KEPT.test(name) || name.length < 8) return name;
    // Two that are called the same are the same.
    if (!names.has(prefix + name)) names.set(prefix + name, prefix === 'i' && names.size === 0 ? MARK : `${prefix}${names.size.toString(36)}`);
    return names.get(prefix + name);
  };
  const parts = [wasm.subarray(0, 8)];
  for (let at = 8; at < wasm.length; ) {
    const [size, body] = number(wasm, at + 1);
    const end = body + size;
    const id = wasm[at];
    if (id === IMPORTS || id === EXPORTS) {
      const content = id === IMPORTS ? imports(wasm, body, end, short) : exports(wasm, body, end, short);
      parts.push(Buffer.of(id), leb(content.length), content);
    } else parts.push(wasm.subarray(at, end));
    at = end;
  }
  let text = glue;
  for (const [key, name] of names) {
    const word = key.slice(1).replaceAll('$', '\\$');
    // An import is a key of an object, an export a property.
    const used = key[0] === 'i' ? new RegExp(`(?<![.\\w$])${word}(?=\\s*[:(=])`, 'g') : new RegExp(`(?<=\\.)${word}(?![\\w$])`, 'g');
    const replaced = text.replace(used, name);
    if (replaced === text && key[0] === 'i') throw new Error(`the glue has no ${word}`);
    text = replaced;
  }
  // Glue that is the same fits, whatever is behind it: the CPU builds share theirs.
  const mark = MARK.replace('00000000', createHash('sha256').update(text).digest('hex').slice(0, 8));
  const shortened = Buffer.concat(parts);
  const at = shortened.indexOf(MARK);
  if (at >= 0) shortened.write(mark, at);
  return { wasm: shortened, glue: text.replaceAll(MARK, mark) };
}

function imports(wasm, body, end, short) {
  const out = [];
  let [count, at] = number(wasm, body);
  out.push(leb(count));
  for (; count > 0; count--) {
    const module = text(wasm, at);
    const field = text(wasm, module.end);
    const kind = field.end;
    at = skipType(wasm, kind);
    out.push(wasm.subarray(module.start, module.end), named(short(field.value, 'i')), wasm.subarray(kind, at));
  }
  if (at !== end) throw new Error('the import section is not understood');
  return Buffer.concat(out);
}

function exports(wasm, body, end, short) {
  const out = [];
  let [count, at] = number(wasm, body);
  out.push(leb(count));
  for (; count > 0; count--) {
    const name = text(wasm, at);
    [, at] = number(wasm, name.end + 1);
    out.push(named(short(name.value, 'e')), wasm.subarray(name.end, at));
  }
  if (at !== end) throw new Error('the export section is not understood');
  return Buffer.concat(out);
}

/** Where what is imported ends: a kind and its type. */
function skipType(wasm, at) {
  const limits = (from) => {
    const [, first] = number(wasm, from + 1);
    return wasm[from] & 1 ? number(wasm, first)[1] : first;
  };
  switch (wasm[at]) {
    case 0: // A function and its signature.
      return number(wasm, at + 1)[1];
    case 1: // A table of some type.
      return limits(at + 2);
    case 2: // A memory.
      return limits(at + 1);
    case 3: // A global: its type, and whether it changes.
      return at + 3;
    default:
      throw new Error(`an import of kind ${wasm[at]} is not understood`);
  }
}

/** An unsigned LEB128 number, and where it ends. */
function number(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return [value, at];
  }
}

function leb(value) {
  const bytes = [];
  do {
    bytes.push((value & 127) | (value > 127 ? 128 : 0));
    value = Math.floor(value / 128);
  } while (value > 0);
  return Buffer.from(bytes);
}

function text(wasm, at) {
  const [length, from] = number(wasm, at);
  return { start: at, end: from + length, value: wasm.subarray(from, from + length).toString() };
}

function named(name) {
  return Buffer.concat([leb(name.length), Buffer.from(name)]);
}
