// The pictures as the peers take them: normalised and cropped, so that this costs them nothing.

/** One Float32Array a picture, and its shape. */
export async function inputs(folder, { num_channels, img_size }) {
  const all = new Float32Array(await bytes(`${folder}inputs.f32`));
  const shape = [1, num_channels, img_size, img_size];
  const size = num_channels * img_size ** 2;
  return { shape, pictures: Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size)) };
}

/** A file, or an error that names it. */
export async function bytes(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.arrayBuffer();
}
