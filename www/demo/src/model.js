// Loading a model: what is asked for, how far it is, what it runs on.
import { AimClassifier, deleteCached, listCached } from './aim-web/dist/index.js';
import { bytes, isDigit, short } from './names.js';

const $ = (id) => document.getElementById(id);

let loading;

/** The model that is ready, if any. */
export let aim;

/** True while one loads. */
export const busy = () => loading !== undefined;

/** What the form asks for. */
export function wanted() {
  const named = document.querySelector('input[name=which]:checked').value === 'named';
  return {
    model: named ? $('name').value.trim() || $('name').placeholder : undefined,
    options: { device: $('want-device').value, dtype: $('want-dtype').value },
  };
}

/** Puts what the address asks for (`?model=…&device=…&dtype=…`) into the form. */
export function fromAddress() {
  const query = new URLSearchParams(location.search);
  if (query.has('model')) {
    document.querySelector('input[name=which][value=named]').checked = true;
    $('name').value = query.get('model');
  }
  for (const name of ['device', 'dtype']) {
    const field = $(`want-${name}`);
    if ([...field.options].some(({ value }) => value === query.get(name))) field.value = query.get(name);
  }
}

/** Weights of more bytes don't stand beside those of the model before. */
const BESIDE = 300e6;

/**
 * Loads what `wanted()` says, in place of any load under way. The model before stays until the new one is ready, so that
 * a typing error loses nothing; a large one takes its place as soon as it is known to exist, when `onRoom()` is called.
 */
export async function load({ model, options }, onRoom) {
  loading?.abort();
  const mine = (loading = new AbortController());
  const makeRoom = () => {
    if (!aim) return;
    void aim.dispose();
    aim = undefined;
    describe();
    onRoom();
  };
  const fetchModel = () =>
    AimClassifier.fromPretrained(model, {
      ...options,
      signal: mine.signal,
      progress_callback: (event) => {
        if (mine.signal.aborted) return;
        if (event.status === 'progress_total') {
          progress(`${bytes(event.loaded)} of ${bytes(event.total)}`, event.progress);
          if (event.total > BESIDE) makeRoom();
        } else if (event.status === 'warmup') progress('Warming up', undefined);
      },
    });
  $('stop').hidden = false;
  progress('Getting ready', undefined);
  try {
    const next = await fetchModel().catch((error) => {
      if (error.code !== 'out_of_memory' || !aim || mine.signal.aborted) throw error;
      makeRoom();
      return fetchModel();
    });
    if (mine.signal.aborted) {
      await next.dispose();
      throw mine.signal.reason;
    }
    void aim?.dispose();
    aim = next;
    describe(model === undefined);
    return aim;
  } catch (error) {
    // Whatever else a load fails of, once it is given up that is the reason.
    throw mine.signal.aborted ? mine.signal.reason : error;
  } finally {
    if (loading === mine) {
      loading = undefined;
      // A hidden button loses the focus.
      if (document.activeElement === $('stop')) $('load').focus();
      $('stop').hidden = true;
      $('progress').hidden = true;
    }
    void showCache();
  }
}

/** Gives up the load that is under way. */
export function stopLoading() {
  loading?.abort();
}

function progress(text, percent) {
  $('progress').hidden = false;
  $('progress-text').textContent = text;
  if (percent === undefined) $('bar').removeAttribute('value');
  else $('bar').value = percent;
}

/** Shows what the model runs on, and why. */
export function describe(embedded) {
  if (!aim) {
    for (const id of ['device', 'dtype']) $(id).textContent = '–';
    $('why').textContent = '';
    return;
  }
  const { device, dtype, reason, adapter, build, threads, bytesFetched, bytesCached, loadMs, warmupMs, blocks } = aim.info;
  $('device').textContent = device === 'webgpu' ? 'WebGPU' : 'CPU';
  $('dtype').textContent = { q4: '4 bits', q8: '8 bits', fp16: '16 bits', fp32: '32 bits' }[dtype] ?? dtype;
  const where = device === 'webgpu' ? adapter : build === 'cpu' ? 'with SIMD' : `with relaxed SIMD${threads > 1 ? ` on ${threads} threads` : ''}`;
  const chosen = reason === 'asked for' ? 'as you asked' : reason;
  const sizes = [bytesFetched && `${bytes(bytesFetched)} fetched`, bytesCached && `${bytes(bytesCached)} from the cache`].filter(Boolean).join(', ');
  $('why').textContent = `${device === 'webgpu' ? 'WebGPU' : 'CPU'}${where ? ` ${device === 'webgpu' ? `(${where})` : where}` : ''}: ${chosen}. ${blocks} blocks${sizes ? `, ${sizes}` : ''}; loaded in ${seconds(loadMs)}, warmed up in ${seconds(warmupMs)}.`;
  if (embedded !== undefined) labels(embedded ? aim.labels : []);
}

const seconds = (ms) => (ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`);

/** The labels of the built-in model; another's would be a thousand. */
function labels(names) {
  if (names.length === 0) return;
  const chip = (name) => {
    const item = document.createElement('li');
    item.textContent = isDigit(name) ? name : short(name);
    item.dataset.label = name;
    return item;
  };
  $('digits').replaceChildren(...names.filter(isDigit).map(chip));
  $('garments').replaceChildren(...names.filter((name) => !isDigit(name)).map(chip));
}

/** Shows what the cache holds. */
export async function showCache() {
  let text = 'Nothing in the cache';
  let empty = true;
  try {
    const models = await listCached();
    const sum = models.reduce((total, { bytes: size }) => total + size, 0);
    if (models.length > 0) text = `${bytes(sum)} in the cache: ${models.map(({ model }) => model).join(', ')}`;
    empty = models.length === 0;
  } catch {
    text = 'The cache cannot be read';
  }
  $('cache').textContent = text;
  $('clear').disabled = empty;
}

/** Empties the cache. */
export async function clearCache() {
  $('clear').disabled = true;
  try {
    await deleteCached();
  } finally {
    await showCache();
  }
}
