// Names a picture on the CPU: node classify.mjs PICTURE
import { readFile } from 'node:fs/promises';
import { AimClassifier, AimError } from 'aim-web';

const [path, model] = process.argv.slice(2);
if (!path) {
  console.error('usage: node classify.mjs PICTURE [MODEL]');
  process.exit(2);
}
try {
  const aim = await AimClassifier.fromPretrained(model);
  const picture = new Blob([await readFile(path)]);
  for (const { label, score } of await aim.classify(picture)) console.log(`${score.toFixed(4)} ${label}`);
  await aim.dispose();
} catch (error) {
  console.error(error instanceof AimError ? `${error.code}: ${error.message}` : error);
  process.exit(1);
}
