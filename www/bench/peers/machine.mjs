// This machine in words.
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** What products of few bits and of f32 depend on, on x86 and on ARM. */
const INSTRUCTIONS = ['avx2', 'avx512f', 'avx512_vnni', 'avx_vnni', 'avx_vnni_int8', 'asimddp', 'i8mm'];

/** Name, generation and the instructions that matter; `cpuinfo` is that of Linux, empty elsewhere. */
export function describe(name, threads, cpuinfo) {
  const field = (key) => new RegExp(`^${key}\\s*:\\s*(.*)$`, 'm').exec(cpuinfo)?.[1];
  const [family, model] = [field('cpu family'), field('model')];
  const flags = (field('flags') ?? field('Features') ?? '').split(' ');
  const has = INSTRUCTIONS.filter((flag) => flags.includes(flag));
  return [`${name}${family ? ` (family ${family}, model ${model})` : ''}`, `${threads} processors`, ...(flags.length > 1 ? [`of ${INSTRUCTIONS.join(', ')} it has ${has.join(', ') || 'none'}`] : [])].join(', ');
}

export function machine() {
  let cpuinfo = '';
  try {
    cpuinfo = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    // Not Linux.
  }
  return describe(cpus()[0]?.model ?? 'unknown', cpus().length, cpuinfo);
}
