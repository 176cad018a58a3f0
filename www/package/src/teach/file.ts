import type { AimError } from '../errors.js';
import type { LoadOptions, Model } from '../options.js';
import { tools } from './tools.js';

// Files of heads and lessons: safetensors, as src/probe/file.rs writes and reads them; a lesson's pictures are tensors
// whose names begin with "lesson.".

/** A tensor of a file. */
export interface Tensor {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

/** What a file holds. */
export interface Contents {
  metadata: Record<string, string>;
  tensors: Map<string, Tensor>;
}

/** The trunk that a head or a lesson belongs to. */
export interface Trunk {
  name: string;
  arch?: string | undefined;
  sha256: string;
}

/** The largest header that is read. */
const MAX_HEADER = 100e6;
/** No file of a lesson is larger. */
const MAX_FILE = 2 ** 31;

const broken = (why: string, cause?: unknown): AimError => new tools.AimError('format', `this is no file of a lesson: ${why}. Give what lesson.export() or aim-bench train wrote`, { cause });

/** Reads a file. */
export async function read(blob: Blob): Promise<Contents> {
  if (blob.size > MAX_FILE) throw broken(`it has ${blob.size} bytes`);
  const bytes = new Uint8Array(
    await blob.arrayBuffer().catch((cause: Error) => {
      throw new tools.AimError('not_found', `the file of the lesson could not be read: ${cause.message}. Choose it again`, { cause });
    }),
  );
  if (bytes.length < 10 || bytes[8] !== 0x7b) throw broken('it does not begin as one');
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > bytes.length) throw broken('it is cut or damaged');
  const data = bytes.subarray(8 + length);
  try {
    const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + length))) as Record<string, never>;
    const tensors = new Map<string, Tensor>();
    for (const [name, entry] of Object.entries(entries)) {
      const { dtype, shape, data_offsets: [from, to] } = entry as { dtype: string; shape: number[]; data_offsets: [number, number] };
      if (!Array.isArray(shape) || !(from >= 0 && from <= to && to <= data.length)) throw new Error(`tensor ${name} is not all there`);
      tensors.set(name, { dtype, shape, data: data.subarray(from, to) });
    }
    return { metadata: metadata ?? {}, tensors };
  } catch (cause) {
    throw broken((cause as Error).message, cause);
  }
}

/** Writes a file. */
export function write({ metadata, tensors }: Contents): Uint8Array<ArrayBuffer>[] {
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const [name, { dtype, shape, data }] of tensors) header[name] = { dtype, shape, data_offsets: [offset, (offset += data.length)] };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  padded.set(text, 8);
  return [padded, ...[...tensors.values()].map(({ data }) => data as Uint8Array<ArrayBuffer>)];
}

/** The head of a file alone, as the wasm module takes it; undefined if there is none. */
export function headOf({ metadata, tensors }: Contents): Uint8Array<ArrayBuffer> | undefined {
  const head = [...tensors].filter(([name]) => !name.startsWith('lesson.'));
  if (head.length === 0) return undefined;
  const { 'aim.lesson': _, ...rest } = metadata;
  return joined(write({ metadata: rest, tensors: new Map(head) }));
}

/** One array after the other. */
export function joined(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The trunk that a file names. */
export function trunkOf({ metadata }: Contents): Trunk {
  let trunk: Partial<Trunk> | undefined;
  try {
    trunk = metadata['aim.trunk'] ? (JSON.parse(metadata['aim.trunk']) as Trunk) : (JSON.parse(metadata['aim.config'] ?? '') as { trunk: Trunk }).trunk;
  } catch (cause) {
    throw broken('it does not say which model it belongs to', cause);
  }
  if (typeof trunk?.name !== 'string' || typeof trunk.sha256 !== 'string') throw broken('it does not say which model it belongs to');
  return trunk as Trunk;
}

/** The name by which a model in a page is the embedded one. */
export const EMBEDDED = 'aim-tiny';

/** What is loaded for a taught head in a file: the trunk that it names, or another one that is named, and the head. */
export async function taught(blob: Blob, options: LoadOptions | undefined): Promise<{ model: Model | undefined; options: LoadOptions; head: Uint8Array }> {
  const contents = await read(blob);
  const head = headOf(contents);
  if (!head) throw new tools.AimError('format', 'this lesson has pictures and no head: import it by lesson.import() and train()');
  const { name, arch } = trunkOf(contents);
  const { trunk, ...rest } = options ?? {};
  const named = trunk ?? name;
  // A name of the hub may have a revision behind it.
  const [, repository, revision] = (typeof named === 'string' && /^([\w.-]+\/[\w.-]+)(?:@(.+))?$/.exec(named)) || [];
  // A model in memory has no address, and aim-bench may have read a folder of its own machine.
  if (!trunk && name !== EMBEDDED && !repository && !name.includes('://')) throw new tools.AimError('option', `this head was taught on '${name}', which can't be fetched from here: pass that model as the option trunk`);
  return { head, model: named === EMBEDDED ? undefined : (repository ?? named), options: { ...rest, arch: rest.arch ?? (arch as LoadOptions['arch']), revision: rest.revision ?? revision } };
}
