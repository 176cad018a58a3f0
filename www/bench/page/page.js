// Loads the model that the address asks for, names one picture, times frames of a canvas, then batches.
import { AimClassifier } from '../package/dist/index.js';

const query = new URLSearchParams(location.search);
try {
  const aim = await AimClassifier.fromPretrained(query.get('model') ?? undefined, { device: query.get('device'), dtype: query.get('dtype') ?? 'auto', threads: query.has('threads') ? Number(query.get('threads')) : undefined });
  const first = await aim.classify('../picture.jpg');
  // The clock of a page starts with its navigation.
  const firstLabel = performance.now();

  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
  const context = canvas.getContext('2d');
  // A frame of a camera has no transparency.
  context.fillStyle = '#456';
  context.fillRect(0, 0, canvas.width, canvas.height);
  const frames = [];
  for (let i = 0; i < Number(query.get('frames')); i++) {
    context.fillStyle = `hsl(${i * 20} 60% 50%)`;
    context.fillRect(i, i, 300, 200);
    frames.push((await aim.classifyForVideo(canvas, i)).ms);
  }
  const { info } = aim;
  const batch = (query.get('batch') ?? '').split(',').filter(Boolean).map(Number);
  const measured = batch.length > 0 ? await aim.measure({ batch, seconds: Number(query.get('seconds') ?? 2) }) : [];
  globalThis.result = { label: first[0].label, firstLabel, frames, info, measured };
} catch (error) {
  globalThis.result = { error: `${error.code ?? error.name}: ${error.message}` };
}
