// Names a picture: deno run --allow-read --allow-net classify.js PICTURE
// On WebGPU where `navigator.gpu` has a hardware adapter, else on the CPU.
import { AimClassifier, AimError } from 'aim-web';

const [path, model] = Deno.args;
if (!path) {
  console.error('usage: deno run --allow-read --allow-net classify.js PICTURE [MODEL]');
  Deno.exit(2);
}
try {
  const aim = await AimClassifier.fromPretrained(model);
  const picture = new Blob([await Deno.readFile(path)]);
  for (const { label, score } of await aim.classify(picture)) console.log(`${score.toFixed(4)} ${label}`);
  await aim.dispose();
} catch (error) {
  console.error(error instanceof AimError ? `${error.code}: ${error.message}` : error);
  Deno.exit(1);
}
