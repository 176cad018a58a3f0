// Every kind of input, good and bad, in a page whose classifier runs in a worker on the CPU: in Chromium and, where it is
// installed, in Firefox.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BROWSERS } from '../lib/firefox.mjs';
import { open, site } from '../lib/site.mjs';

for (const [name, start] of Object.entries(BROWSERS)) describe(name, () => {
  let served, other, browser, page;

  before(async () => {
    served = await site();
    // Another origin, which allows no reading.
    other = await site();
    browser = await start();
    page = await open(browser, served.url);
    await page.evaluate(async (foreign) => {
      globalThis.FOREIGN = foreign;
      globalThis.aim = await lib.AimClassifier.fromPretrained('/small/');
      globalThis.canvas = testCanvas();
      globalThis.png = await pngOf(canvas);
      globalThis.right = await aim.logits(png);
    }, other.url);
  });

  after(async () => {
    await browser?.close();
    await served?.close();
    await other?.close();
  });

  describe('the same pixels give the same logits, whatever holds them', () => {
    const INPUTS = {
      'URL string, absolute': async () => new URL('/photo/2.jpg', location.href).href,
      'URL string, relative': async () => './photo/2.jpg',
      'URL object': async () => new URL('/photo/2.jpg', location.href),
      'Blob': async () => png,
      'File': async () => new File([png], 'p.png'),
      'ArrayBuffer of a file': async () => png.arrayBuffer(),
      'typed array of a file': async () => new Uint8Array(await new Blob([new Uint8Array(3), png]).arrayBuffer(), 3),
      'Response': async () => new Response(png),
      'ReadableStream': async () => png.stream(),
      'blob: URL': async () => URL.createObjectURL(png),
      'data: URL': async () => canvas.toDataURL('image/png'),
      'ImageData': async () => pixelsOf(canvas),
      'ImageData of rgba-float16': async () => {
        const { data, width, height } = pixelsOf(canvas);
        if (typeof Float16Array !== 'function' || !('pixelFormat' in ImageData.prototype)) return undefined;
        const image = new ImageData(width, height, { pixelFormat: 'rgba-float16' });
        image.data.set(Array.from(data, (value) => value / 255));
        return image;
      },
      '{ data, width, height }': async () => ({ data: new Uint8Array(pixelsOf(canvas).data), width: canvas.width, height: canvas.height }),
      'ImageBitmap': async () => createImageBitmap(canvas),
      'HTMLImageElement': async () => {
        const image = new Image();
        image.src = URL.createObjectURL(png);
        return image;
      },
      'HTMLCanvasElement': async () => canvas,
      'HTMLCanvasElement with WebGL': async () => {
        const flipped = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
        const gl = flipped.getContext('webgl', { preserveDrawingBuffer: true });
        if (!gl) return undefined;
        const texture = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, texture);
        gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, false);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, canvas);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
        const shader = (type, source) => {
          const made = gl.createShader(type);
          gl.shaderSource(made, source);
          gl.compileShader(made);
          return made;
        };
        const program = gl.createProgram();
        gl.attachShader(program, shader(gl.VERTEX_SHADER, 'attribute vec2 p; varying vec2 t; void main() { t = vec2(p.x + 1., 1. - p.y) / 2.; gl_Position = vec4(p, 0, 1); }'));
        gl.attachShader(program, shader(gl.FRAGMENT_SHADER, 'precision highp float; uniform sampler2D s; varying vec2 t; void main() { gl_FragColor = texture2D(s, t); }'));
        gl.linkProgram(program);
        gl.useProgram(program);
        gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
        gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
        gl.enableVertexAttribArray(0);
        gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
        return flipped;
      },
      'OffscreenCanvas': async () => testCanvas(160, 120, 'offscreen'),
      'VideoFrame of RGB': async () => new VideoFrame(canvas, { timestamp: 0, alpha: 'discard' }),
      'VideoFrame of a buffer': async () => new VideoFrame(pixelsOf(canvas).data.buffer, { format: 'RGBX', codedWidth: canvas.width, codedHeight: canvas.height, timestamp: 0 }),
    };

    for (const [name, make] of Object.entries(INPUTS)) {
      test(name, async (t) => {
        const worst = await page.evaluate(async (make) => {
          const input = await new Function(`return (${make})()`)();
          if (input === undefined) return undefined;
          const jpeg = String(input).endsWith('.jpg');
          const reference = jpeg ? await aim.logits(await (await fetch('/photo/2.jpg')).blob()) : right;
          return difference(await aim.logits(input), reference);
        }, String(make));
        if (worst === undefined) return t.skip('this browser has none');
        assert.ok(worst <= 1e-6, `off by ${worst}`);
      });
    }

    test('an SVG: a file, its bytes, a data: URL, an address; at its own size, else 512 pixels', async () => {
      const worst = await page.evaluate(async () => {
        const flag = Object.assign(document.createElement('canvas'), { width: 512, height: 384 });
        const context = flag.getContext('2d');
        // tests/e2e/pages/flag.svg, which says its proportions alone, on white.
        for (const [colour, ...at] of [['#fff', 0, 0, 512, 384], ['#c22', 0, 0, 256, 128], ['#26c', 128, 128, 384, 256]]) {
          context.fillStyle = colour;
          context.fillRect(...at);
        }
        const expected = await aim.logits(flag);
        const text = await (await fetch('./flag.svg')).text();
        const sized = text.replace('<svg', '<svg width="512px" height="384"');
        const off = [];
        for (const input of ['./flag.svg', new URL('./flag.svg#x', location.href), new Blob([text], { type: 'image/svg+xml' }), new Blob([text]), new TextEncoder().encode(text).buffer, URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' })), await fetch('./flag.svg'), `data:image/svg+xml,${encodeURIComponent(sized)}`, `data:image/svg+xml;base64,${btoa(text)}`]) {
          off.push(difference(await aim.logits(input), expected));
        }
        return off;
      });
      assert.deepEqual(worst, [0, 0, 0, 0, 0, 0, 0, 0, 0]);
    });

    test('the small picture of a lesson is what of it was looked at', async () => {
      const corners = await page.evaluate(async () => {
        // Above two fields, below two others; a margin at the left.
        const source = new OffscreenCanvas(120, 80);
        const context = source.getContext('2d');
        for (const [colour, ...at] of [['#fff', 0, 0, 40, 80], ['#f00', 40, 0, 40, 40], ['#0f0', 80, 0, 40, 40], ['#00f', 40, 40, 40, 40], ['#000', 80, 40, 40, 40]]) {
          context.fillStyle = colour;
          context.fillRect(...at);
        }
        const file = await source.convertToBlob();
        const corners = [];
        for (const OffscreenCanvas of [globalThis.OffscreenCanvas, undefined]) {
          globalThis.OffscreenCanvas = OffscreenCanvas;
          const lesson = aim.teach({ keepPictures: true });
          for (const rotationDegrees of [0, 90, 180]) await lesson.add('a', file, { regionOfInterest: { left: 1 / 3, top: 0, right: 1, bottom: 1 }, rotationDegrees });
          for (const { picture } of lesson.examples) {
            const drawn = document.createElement('canvas').getContext('2d');
            drawn.drawImage(await createImageBitmap(picture), 0, 0);
            corners.push([[40, 40], [120, 40], [40, 120], [120, 120]].map(([x, y]) => [...drawn.getImageData(x, y, 1, 1).data.slice(0, 3)].map((value) => (value > 127 ? 1 : 0)).join('')).join(' '));
          }
          globalThis.OffscreenCanvas ??= source.constructor;
        }
        return corners;
      });
      const turned = ['100 010 001 000', '001 100 000 010', '000 001 010 100'];
      assert.deepEqual(corners, [...turned, ...turned]);
    });

    test('HTMLVideoElement', async () => {
      const { names, worst } = await page.evaluate(async () => {
        const video = document.createElement('video');
        video.muted = true;
        const moving = testCanvas();
        video.srcObject = moving.captureStream();
        // A stream has a frame only when its canvas is painted.
        const paint = setInterval(() => moving.getContext('2d').drawImage(canvas, 0, 0), 30);
        await video.play();
        while (video.readyState < 2) await new Promise((resolve) => setTimeout(resolve, 20));
        // The camera path converts colours, so near is right.
        const logits = await aim.logits(video);
        const frame = await aim.classifyForVideo(video, 1234);
        clearInterval(paint);
        const scale = Math.max(...right.map(Math.abs));
        return { names: [frame.timestamp, frame.length, frame.ms > 0], worst: difference(logits, right) / scale };
      });
      assert.deepEqual(names, [1234, 5, true]);
      assert.ok(worst < 0.2, `off by ${worst}`);
    });

    test('an array of several kinds gives an array', async () => {
      const worst = await page.evaluate(async () => {
        const all = await aim.logits([png, canvas, pixelsOf(canvas)]);
        return all.map((logits) => difference(logits, right));
      });
      assert.equal(worst.length, 3);
      assert.ok(Math.max(...worst) <= 1e-6);
    });

    test('transparency keeps its colours', async () => {
      const worst = await page.evaluate(async () => {
        // The same colours behind any alpha: alpha is dropped, as the reference does.
        const image = pixelsOf(canvas);
        const clear = new Uint8Array(image.data);
        for (let i = 3; i < clear.length; i += 4) clear[i] = (i >> 2) % 256;
        const ihdr = { width: image.width, height: image.height };
        const frame = new VideoFrame(clear.buffer, { format: 'RGBA', codedWidth: ihdr.width, codedHeight: ihdr.height, timestamp: 0 });
        const raw = { data: clear, ...ihdr };
        // A PNG with straight alpha, written by hand: a canvas could not hold it.
        const crcTable = Array.from({ length: 256 }, (_, n) => { let c = n; for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1; return c >>> 0; });
        const crc = (bytes) => { let c = 0xffffffff; for (const b of bytes) c = crcTable[(c ^ b) & 255] ^ (c >>> 8); return (c ^ 0xffffffff) >>> 0; };
        const chunk = (type, data) => { const body = new Uint8Array([...new TextEncoder().encode(type), ...data]); const out = new Uint8Array(body.length + 8); const view = new DataView(out.buffer); view.setUint32(0, data.length); out.set(body, 4); view.setUint32(out.length - 4, crc(body)); return out; };
        const rows = new Uint8Array(ihdr.height * (ihdr.width * 4 + 1));
        for (let y = 0; y < ihdr.height; y++) rows.set(clear.subarray(y * ihdr.width * 4, (y + 1) * ihdr.width * 4), y * (ihdr.width * 4 + 1) + 1);
        const packed = new Uint8Array(await new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate'))).arrayBuffer());
        const head = new Uint8Array(13); const view = new DataView(head.buffer); view.setUint32(0, ihdr.width); view.setUint32(4, ihdr.height); head.set([8, 6, 0, 0, 0], 8);
        const file = new Blob([Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10), chunk('IHDR', head), chunk('IDAT', packed), chunk('IEND', [])]);
        return [difference(await aim.logits(raw), right), difference(await aim.logits(frame), right), difference(await aim.logits(file), right)];
      });
      assert.ok(Math.max(...worst) <= 1e-6, `off by ${worst}`);
    });

    test('the caller keeps what it passed', async () => {
      const kept = await page.evaluate(async () => {
        const bitmap = await createImageBitmap(canvas);
        const frame = new VideoFrame(canvas, { timestamp: 0 });
        const data = pixelsOf(canvas);
        for (const input of [bitmap, frame, data, canvas]) await aim.classify(input);
        return [bitmap.width, frame.displayWidth, data.data.length > 0, canvas.getContext('2d').getImageData(0, 0, 1, 1).data.length];
      });
      assert.deepEqual(kept, [160, 160, true, 4]);
    });
  });

  describe('bad pictures are typed errors, and the classifier goes on', () => {
    const BAD = {
      'a broken file': [async () => new Blob([new Uint8Array(100)], { type: 'image/png' }), /broken or of no format/],
      'a file that is cut off': [async () => png.slice(0, 60), /broken/],
      'a file without its end': [async () => png.slice(0, -12), /broken/],
      'a WebP without its end': [async () => (await new Promise((resolve) => canvas.toBlob(resolve, 'image/webp'))).slice(0, -100), /broken/],
      'a JPEG without its end': [async () => { const file = await (await fetch('/photo/5.jpg')).blob(); return file.slice(0, file.size / 2); }, /broken/],
      'an empty file': [async () => new Blob([]), /broken/],
      'bytes of no picture': [async () => new Uint8Array(100), /broken or of no format/],
      'a Response without a picture': [async () => fetch('./nothing.jpg'), /status is 404/],
      'a Response that was read': [async () => { const response = new Response(png); await response.text(); return response; }, /the Response/],
      'an SVG that is broken': [async () => new Blob(['<svg xmlns="http://www.w3.org/2000/svg"><rect'], { type: 'image/svg+xml' }), /the SVG is broken/],
      'HTML in place of a picture': [async () => './index.html', /HTML page/],
      'a picture that is not there': [async () => './nothing.jpg', /404/, 'not_found'],
      'a server that is not there': [async () => 'http://localhost:9/x.jpg', /could not be fetched/, 'network'],
      'another origin without CORS': [async () => `${FOREIGN}photo/hat.jpg`, /CORS/, 'network'],
      '0x0 pixels': [async () => ({ data: new Uint8Array(), width: 0, height: 0 }), /0 x 0/],
      'a canvas of 0x0': [async () => testCanvasOf(0, 0), /0 x 0/],
      'a header of 20000x20000': [async () => {
        const bytes = new Uint8Array(await png.arrayBuffer());
        new DataView(bytes.buffer).setUint32(16, 20000);
        new DataView(bytes.buffer).setUint32(20, 20000);
        return new Blob([bytes]);
      }, /20000 x 20000 pixels is too large/],
      'too few bytes': [async () => ({ data: new Uint8Array(7), width: 2, height: 2 }), /needs 16 bytes/],
      'a tainted canvas': [async () => {
        const image = new Image();
        image.src = `${FOREIGN}photo/hat.jpg`;
        await loaded(image);
        const tainted = testCanvas();
        tainted.getContext('2d').drawImage(image, 0, 0);
        return tainted;
      }, /origin/],
      'an image element of another origin': [async () => {
        const image = new Image();
        image.src = `${FOREIGN}photo/hat.jpg`;
        return image;
      }, /origin/],
      'an image element that failed': [async () => Object.assign(new Image(), { src: './nothing.jpg' }), /no picture/],
      'a closed VideoFrame': [async () => {
        const frame = new VideoFrame(canvas, { timestamp: 0 });
        frame.close();
        return frame;
      }, /closed/],
      'a closed ImageBitmap': [async () => {
        const bitmap = await createImageBitmap(canvas);
        bitmap.close();
        return bitmap;
      }, /closed/],
      'a video without a picture': [async () => document.createElement('video'), /loadeddata/],
      'null': [async () => null, /null is not a picture/],
      'a number': [async () => 5, /not a picture/],
      'a div': [async () => document.createElement('div'), /HTMLDivElement\] is not a picture/],
      'a string that is no URL': [async () => 'http://', /not a URL/, 'option'],
    };

    for (const [name, [make, text, code = 'image']] of Object.entries(BAD)) {
      test(name, async () => {
        const [result, goesOn] = await page.evaluate(async (make) => {
          globalThis.testCanvasOf = (width, height) => Object.assign(document.createElement('canvas'), { width, height });
          const input = await new Function(`return (${make})()`)();
          return [await outcome(aim.classify(input)), difference(await aim.logits(png), right)];
        }, String(make));
        assert.deepEqual([result.ok, result.aim, result.code], [false, true, code], JSON.stringify(result));
        assert.match(result.message, text);
        assert.equal(goesOn, 0);
      });
    }

    test('a large JPEG with a video behind it, as phones take them', async () => {
      const [worst, cut] = await page.evaluate(async () => {
        const jpeg = await new Promise((resolve) => testCanvas(2600, 1700).toBlob(resolve, 'image/jpeg'));
        const text = 'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta GCamera:MotionPhoto="1"/>';
        const says = [Uint8Array.of(0xff, 0xe1, 0, text.length + 2), text];
        const video = new Uint8Array(1 << 18);
        // Behind the JFIF segment, which Firefox wants first.
        const photograph = new Blob([jpeg.slice(0, 20), ...says, jpeg.slice(20), video]);
        return [difference(await aim.logits(photograph), await aim.logits(jpeg)), await outcome(aim.logits(new Blob([jpeg, video])))];
      });
      assert.equal(worst, 0);
      assert.equal(cut.code, 'image', JSON.stringify(cut));
    });

    test('1x1 and very long pictures are pictures', async () => {
      const lengths = await page.evaluate(async () => [
        (await aim.classify({ data: Uint8Array.of(1, 2, 3, 255), width: 1, height: 1 })).length,
        (await aim.classify({ data: new Uint8Array(4 * 3 * 1000), width: 3, height: 1000 })).length,
      ]);
      assert.deepEqual(lengths, [5, 5]);
    });
  });
});
