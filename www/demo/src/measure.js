// How fast the model runs on this device, for people to see and to pass on.
import * as camera from './camera.js';
import { bytes } from './names.js';
import * as model from './model.js';

const $ = (id) => document.getElementById(id);

/** Pictures at once, and for how many seconds each. */
const [BATCHES, SECONDS] = [[1, 4], 2];

let stop;
let result;

function say(text) {
  $('measure-state').textContent = text;
}

const digits = (value, unit = '') => (value === null ? '–' : `${Number(value.toPrecision(3))}${unit}`);

/** One line a batch. */
function row({ batch, ms_per_image, ms_lowest, ms_highest, images_per_second, tflops, peak_share, peak_host_bytes, peak_device_bytes }) {
  const line = document.createElement('tr');
  const cells = [
    batch,
    digits(ms_per_image),
    `${digits(ms_lowest)} to ${digits(ms_highest)}`,
    digits(images_per_second),
    digits(1000 * tflops),
    peak_share === null ? '–' : `${Math.round(100 * peak_share)}%`,
    bytes(peak_device_bytes ?? peak_host_bytes),
  ];
  for (const text of cells) line.insertCell().textContent = text;
  return line;
}

function show(rows) {
  $('measured').hidden = rows.length === 0;
  $('measured-rows').replaceChildren(...rows.map(row));
}

async function measure() {
  const aim = model.aim;
  if (!aim) return say(model.busy() ? 'The model is still loading.' : 'Load a model first.');
  if (camera.on()) return say('Stop the camera first: its frames would be measured too.');
  stop = new AbortController();
  result = undefined;
  const rows = [];
  show(rows);
  $('measure').disabled = true;
  $('measure-stop').hidden = false;
  for (const id of ['measure-copy', 'measure-text']) $(id).hidden = true;
  say('Measuring: leave this page in front.');
  try {
    const onmeasurement = (measurement) => {
      rows.push(measurement);
      show(rows);
    };
    const measured = await aim.measure({ batch: BATCHES, seconds: SECONDS, signal: stop.signal, onmeasurement });
    show(measured);
    const [{ device, adapter, dtype, threads }] = measured;
    say(`${device === 'webgpu' ? `WebGPU (${adapter})` : `CPU, ${adapter}, ${threads} thread${threads === 1 ? '' : 's'}`}, ${dtype}. Medians; whatever else runs on this device slows them down.`);
    result = JSON.stringify({ measured, userAgent: navigator.userAgent, date: new Date().toISOString() }, undefined, 1);
    $('measure-copy').hidden = false;
  } catch (error) {
    say(stop.signal.aborted ? 'Stopped.' : `It could not be measured: ${error.message}`);
  } finally {
    $('measure').disabled = false;
    // A hidden button loses the focus.
    if (document.activeElement === $('measure-stop')) $('measure').focus();
    $('measure-stop').hidden = true;
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(result);
    say('Copied.');
  } catch {
    // Not every page may write there: then it is for the reader to copy.
    $('measure-text').hidden = false;
    $('measure-text').value = result;
    $('measure-text').select();
    say('The browser does not let this page copy: the text is selected below.');
  }
}

$('measure').addEventListener('click', () => void measure());
$('measure-stop').addEventListener('click', () => stop?.abort());
$('measure-copy').addEventListener('click', () => void copy());
