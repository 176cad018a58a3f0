// A random AIM that a software GPU runs in a moment: what the tests ask of it is that all ways to the same
// pixels give the same logits, not that it is right about them.
import { createHash } from 'node:crypto';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';

const CONFIG = { embed_dim: 64, img_size: 112, num_blocks: 3, num_channels: 3, num_classes: 12, num_heads: 2, patch_size: 14, probe_layers: [1, 2] };

function shapes({ embed_dim: d, num_blocks, num_classes, patch_size: p }) {
  const list = {
    'preprocessor.patchifier.proj.weight': [d, 3, p, p],
    'preprocessor.patchifier.proj.bias': [d],
    'preprocessor.patchifier.norm.weight': [d],
    'preprocessor.patchifier.norm.bias': [d],
    // In the order of use, so that blocks that don't run lie at the end.
    'head.bn.running_mean': [d],
    'head.bn.running_var': [d],
    'head.cls_token': [1, 1, d],
    'head.k.weight': [d, d],
    'head.v.weight': [d, d],
    'head.linear.weight': [num_classes, d],
  };
  for (let i = 0; i < num_blocks; i++) {
    const block = `trunk.blocks.${i}`;
    Object.assign(list, {
      [`${block}.norm_1.weight`]: [d],
      [`${block}.norm_1.bias`]: [d],
      [`${block}.attn.qkv.weight`]: [3 * d, d],
      [`${block}.attn.proj.weight`]: [d, d],
      [`${block}.norm_2.weight`]: [d],
      [`${block}.norm_2.bias`]: [d],
      [`${block}.mlp.fc1.weight`]: [4 * d, d],
      [`${block}.mlp.fc2.weight`]: [d, 4 * d],
    });
  }
  return {
    ...list,
    'trunk.post_trunk_norm.weight': [d],
    'trunk.post_trunk_norm.bias': [d],
  };
}

/** Uniform values from -1 to 1, the same each time. */
function* random(seed) {
  for (let state = seed; ; ) {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    yield ((x ^ (x >>> 14)) >>> 0) / 2 ** 31 - 1;
  }
}

/** The first bytes of a file with such tensors, and how many bytes the tensors take. */
function header(tensors) {
  const entries = {};
  let offset = 0;
  for (const [name, shape] of Object.entries(tensors)) {
    const bytes = 4 * shape.reduce((a, b) => a * b, 1);
    entries[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  let text = JSON.stringify(entries);
  text += ' '.repeat((8 - (text.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return { start: Buffer.concat([length, Buffer.from(text)]), bytes: offset };
}

/** Its small files. */
function described(config) {
  return {
    'config.json': JSON.stringify(config),
    'labels.json': JSON.stringify(Array.from({ length: config.num_classes }, (_, i) => `class ${i}`)),
  };
}

/** The files of the model. */
export function smallModel(changes = {}) {
  const config = { ...CONFIG, ...changes };
  const tensors = shapes(config);
  const values = random(7);
  const parts = Object.entries(tensors).map(([name, shape]) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const scale = shape.length === 1 ? 0.3 : 1.7 / Math.sqrt(count / shape[0]);
    const shift = /norm.*weight$|running_var$/.test(name) ? 1 : 0;
    return Buffer.from(Float32Array.from({ length: count }, () => shift + scale * values.next().value).buffer);
  });
  return { ...described(config), 'model.safetensors': new Uint8Array(Buffer.concat([header(tensors).start, ...parts])) };
}

/** Writes a model of any size whose weights are all 0, which takes no space on most disks. */
export function writeZeros(folder, changes) {
  const config = { ...CONFIG, ...changes };
  const { start, bytes } = header(shapes(config));
  writeFiles(folder, { ...described(config), 'model.safetensors': start });
  truncateSync(`${folder}/model.safetensors`, start.length + bytes);
}

/** Writes files into a folder. */
export function writeFiles(folder, files) {
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(`${folder}/${name}`, content);
}

/** Writes the files of the model into a folder. */
export function writeSmallModel(folder, changes) {
  writeFiles(folder, smallModel(changes));
}

const CHUNK = 8 * 2 ** 20;

/** The same model as docs/shards.md has it: one shard, with its index and its manifest. */
export function asShards({ 'model.safetensors': weights, ...small }) {
  const name = 'model-00001-of-00001.safetensors';
  const header = JSON.parse(Buffer.from(weights.subarray(8, 8 + new DataView(weights.buffer).getUint32(0, true))).toString());
  const weight_map = Object.fromEntries(Object.keys(header).map((tensor) => [tensor, name]));
  const files = { ...small, 'model.safetensors.index.json': JSON.stringify({ weight_map }), [name]: weights };
  const hashes = (bytes) => Array.from({ length: Math.ceil(bytes.length / CHUNK) }, (_, i) => createHash('sha256').update(bytes.subarray(i * CHUNK, (i + 1) * CHUNK)).digest('hex'));
  const entries = Object.entries(files).map(([file, content]) => [file, Buffer.from(content)]);
  const manifest = { version: 1, chunk_size: CHUNK, files: Object.fromEntries(entries.map(([file, bytes]) => [file, { size: bytes.length, sha256: hashes(bytes) }])) };
  return { ...files, 'aim.manifest.json': JSON.stringify(manifest) };
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** An archive of records that are stored as they are, each at a multiple of 64 bytes. */
function archive(records) {
  const parts = [];
  const entries = [];
  let at = 0;
  const write = (...buffers) => {
    for (const buffer of buffers) {
      parts.push(buffer);
      at += buffer.length;
    }
  };
  for (const [name, data] of records) {
    const start = at;
    const path = Buffer.from(name);
    const padding = Buffer.alloc((64 - ((at + 30 + path.length) % 64)) % 64);
    const head = Buffer.alloc(30);
    head.write('PK\x03\x04', 'latin1');
    head.writeUInt32LE(crc32(data), 14);
    head.writeUInt32LE(data.length, 18);
    head.writeUInt32LE(data.length, 22);
    head.writeUInt16LE(path.length, 26);
    head.writeUInt16LE(padding.length, 28);
    const entry = Buffer.alloc(46);
    entry.write('PK\x01\x02', 'latin1');
    head.copy(entry, 16, 14, 28);
    entry.writeUInt32LE(start, 42);
    entries.push(entry, path);
    write(head, path, padding, data);
  }
  const directory = at;
  write(...entries);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(records.length, 8);
  end.writeUInt16LE(records.length, 10);
  end.writeUInt32LE(at - directory, 12);
  end.writeUInt32LE(directory, 16);
  write(end);
  return new Uint8Array(Buffer.concat(parts));
}

/** The same model as torch.save writes it: `pytorch_model.bin`, in which the probe comes last. */
export function asTorch({ 'model.safetensors': weights, ...small }) {
  const length = new DataView(weights.buffer, weights.byteOffset).getUint32(0, true);
  const header = JSON.parse(Buffer.from(weights.subarray(8, 8 + length)).toString());
  const isHead = ([name]) => name.startsWith('head.');
  const tensors = Object.entries(header).sort((a, b) => isHead(a) - isHead(b));
  const bytes = (letter, size, value) => {
    const buffer = Buffer.alloc(1 + size);
    buffer.write(letter);
    buffer.writeUIntLE(value, 1, size);
    return buffer;
  };
  const text = (value) => Buffer.concat([bytes('X', 4, Buffer.byteLength(value)), Buffer.from(value)]);
  const int = (value) => bytes('J', 4, value);
  const op = (value) => Buffer.from(value, 'latin1');
  const pickle = [op('\x80\x02ccollections\nOrderedDict\n)R(')];
  const records = [];
  tensors.forEach(([name, { shape, data_offsets: [start, end] }], key) => {
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
    pickle.push(text(name), op('ctorch._utils\n_rebuild_tensor_v2\n(('), text('storage'), op('ctorch\nFloatStorage\n'), text(String(key)), text('cpu'));
    pickle.push(int((end - start) / 4), op('tQK\0('), ...shape.map(int), op('t('), ...strides.map(int), op('t\x89ccollections\nOrderedDict\n)RtR'));
    records.push([`pytorch_model/data/${key}`, Buffer.from(weights.subarray(8 + length + start, 8 + length + end))]);
  });
  pickle.push(op('u.'));
  const front = [['pytorch_model/data.pkl', Buffer.concat(pickle)], ['pytorch_model/byteorder', op('little')]];
  return { ...small, 'pytorch_model.bin': archive([...front, ...records, ['pytorch_model/version', op('3\n')]]) };
}
