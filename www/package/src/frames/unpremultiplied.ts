import type { Pixels } from './frame.js';

/** Made once: a context takes longer than the frame of a video. */
let kept: WebGL2RenderingContext | undefined;

function context(): WebGL2RenderingContext | undefined {
  if (kept?.isContextLost() === false) return kept;
  kept = undefined;
  if (typeof OffscreenCanvas !== 'function') return undefined;
  const gl = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!gl) return undefined;
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  return (kept = gl);
}

/**
 * The pixels of a picture with transparency, unharmed. A 2D canvas multiplies colours by alpha and back,
 * which loses them where alpha is low; the reference drops alpha and keeps the colours. A texture upload
 * does no arithmetic. Undefined without WebGL2 or for a picture larger than a texture.
 */
export function unpremultiplied(source: ImageBitmap | VideoFrame, width: number, height: number): Pixels | undefined {
  const gl = context();
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return undefined;
  const texture = gl.createTexture();
  try {
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return undefined;
    const data = new Uint8Array(width * height * 4);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
    return gl.getError() === gl.NO_ERROR ? { data, width, height } : undefined;
  } finally {
    gl.deleteTexture(texture);
  }
}
