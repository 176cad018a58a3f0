#!/usr/bin/env python3
"""Random pictures, written by Pillow, through `aim-bench preprocess` and through the reference's transform.

    pip install torch torchvision pillow safetensors numpy
    python pkg-scripts/fuzz_pillow.py --aim-bench target/checks/aim-bench --pictures 20000 [--seed 1] [--keep FOLDER]

Sizes, contents, modes and every option that Pillow's writers have are drawn at random. The reference is Pillow's own
decoder and torchvision's Resize, CenterCrop, ToTensor and Normalize. What comes out of PNG, BMP, GIF, lossless WebP and
JPEG has to be equal to the last bit; only of JPEG in CMYK, which is read by another decoder than libjpeg-turbo's twin, to
--levels of 255. Pictures that fail are kept in --keep. Of 16-bit grey the reference is the high byte, as the documentation
of `image::decode` says: Pillow would clip it.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFile
from safetensors.numpy import load_file
from torchvision import transforms

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# Pictures of one call.
CHUNK = 100
FORMATS = ["png", "bmp", "gif", "webp", "jpg"]
MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "bmp": ["1", "L", "P", "RGB", "RGBA"],
    "gif": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "webp": ["L", "LA", "P", "RGB", "RGBA"],
    "jpg": ["L", "RGB", "YCbCr", "CMYK"],
}


def side(rng):
    """1 to 700, small ones as often as large ones."""
    return min(700, max(1, round(2 ** rng.uniform(0, 9.5))))


def content(rng, width, height):
    """Colours and alpha, [height, width, 4]: noise, a gradient, shapes, or a mix of them."""
    numbers = np.random.default_rng(rng.getrandbits(64))
    kind = rng.choice(["noise", "gradient", "shapes", "mix", "flat"])
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.empty((height, width, 4))
    for channel in range(4):
        a, b, c = (rng.uniform(-300, 300) for _ in range(3))
        pixels[..., channel] = 128 + a * (x - 0.5) + b * (y - 0.5) + c * (x - 0.5) * (y - 0.5)
    if kind == "flat":
        pixels[:] = numbers.integers(0, 256, 4)
    if kind in ("noise", "mix"):
        spread = 400 if kind == "noise" else rng.uniform(2, 120)
        pixels += numbers.uniform(-spread, spread, pixels.shape)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGBA")
    if kind in ("shapes", "mix"):
        draw = ImageDraw.Draw(picture)
        for _ in range(rng.randint(1, 12)):
            color = tuple(rng.randrange(256) for _ in range(4))
            xs = sorted(rng.randrange(-20, width + 20) for _ in range(2))
            ys = sorted(rng.randrange(-20, height + 20) for _ in range(2))
            shape = rng.choice([draw.ellipse, draw.rectangle])
            shape([xs[0], ys[0], xs[1], ys[1]], fill=color)
    return picture


def in_mode(rng, picture, mode):
    if mode == "I;16":
        low = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (picture.height, picture.width))
        grey = np.asarray(picture.convert("L")).astype(np.uint16)
        return Image.fromarray((grey << 8 | low.astype(np.uint16)).astype(np.uint16))
    if mode == "P":
        colors = rng.choice([2, 3, 4, 15, 16, 17, 200, 256])
        return picture.convert("RGB").quantize(colors, dither=rng.choice([Image.Dither.NONE, Image.Dither.FLOYDSTEINBERG]))
    if mode in ("YCbCr", "CMYK", "1"):
        return picture.convert("RGB").convert(mode)
    return picture.convert(mode)


def options(rng, form, mode, picture):
    """Options of Pillow's writer."""
    maybe = lambda chance: rng.random() < chance  # noqa: E731
    given = {}
    if form == "png":
        given["compress_level"] = rng.randrange(10)
        given["compress_type"] = rng.randrange(5)
        given["optimize"] = maybe(0.3)
        if mode == "P" and maybe(0.5):
            given["bits"] = rng.choice([bits for bits in (1, 2, 4, 8) if picture.getextrema()[1] < 1 << bits])
        if mode in ("P", "L", "1") and maybe(0.3):
            given["transparency"] = 0 if mode == "1" else rng.randrange(picture.getextrema()[1] + 1)
        if mode == "RGB" and maybe(0.3):
            given["transparency"] = tuple(rng.randrange(256) for _ in range(3))
    elif form == "gif":
        given["interlace"] = maybe(0.5)
        given["optimize"] = maybe(0.5)
        if mode == "P" and maybe(0.4):
            given["transparency"] = rng.randrange(picture.getextrema()[1] + 1)
    elif form == "webp":
        given |= {"lossless": True, "quality": rng.choice([0, 30, 80, 100]), "method": rng.randrange(5)}
        given["exact"] = maybe(0.5)
    elif form == "jpg":
        given["quality"] = rng.choice([1, 5, 20, 50, 75, 85, 90, 95, 98, 100, rng.randint(1, 100)])
        given["progressive"] = maybe(0.4)
        given["optimize"] = maybe(0.3)
        if mode in ("RGB", "YCbCr"):
            given["subsampling"] = rng.choice(["4:4:4", "4:2:2", "4:2:0"])
            given["keep_rgb"] = mode == "RGB" and given["subsampling"] == "4:4:4" and maybe(0.2)
        if maybe(0.3):
            given[rng.choice(["restart_marker_blocks", "restart_marker_rows"])] = rng.randint(1, 9)
        if maybe(0.1):
            given["smooth"] = rng.randint(1, 100)
        if maybe(0.1):
            given["qtables"] = [[rng.randint(1, 255) for _ in range(64)] for _ in range(rng.randint(1, 2))]
    return given


def write(rng, folder, number):
    """A picture in a file, its row in the table, and what was drawn."""
    form = rng.choice(FORMATS)
    mode = rng.choice(MODES[form])
    width, height = side(rng), side(rng)
    picture = in_mode(rng, content(rng, width, height), mode)
    given = options(rng, form, mode, picture)
    path = folder / f"{number:06}.{form}"
    try:
        picture.save(path, **given)
    except (OSError, ValueError) as error:
        # Not all options go together; such a picture does not count.
        print(f"not written: {form} {mode} {width}x{height} {given}: {error}", file=sys.stderr)
        return None
    return path, "cmyk" if mode == "CMYK" else form, f"{form} {mode} {width}x{height} {given}"


def reference(path, size):
    """The transform of AIM's validation."""
    picture = Image.open(path)
    if picture.mode == "I;16":
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    transform = transforms.Compose(
        [
            transforms.Resize(-(-size * 8 // 7), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN.tolist(), STD.tolist()),
        ]
    )
    return transform(picture.convert("RGB")).numpy()


def levels(tensor):
    return np.rint((tensor * STD[:, None, None] + MEAN[:, None, None]) * 255).astype(int)


def ours(program, paths, size, folder):
    """The tensors of pictures, and what is said of those that are refused."""
    output = folder / "ours.safetensors"
    command = [program, "preprocess", *map(str, paths), "--img-size", str(size), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(zip(paths, load_file(output)["input"])), {}
    if len(paths) == 1:
        return {}, {paths[0]: done.stderr.strip() or f"exit code {done.returncode}"}
    half = len(paths) // 2
    first, second = (ours(program, part, size, folder) for part in (paths[:half], paths[half:]))
    return first[0] | second[0], first[1] | second[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aim-bench", required=True, help="the program")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--levels", type=int, default=3, help="the most by which a JPEG in CMYK may differ")
    parser.add_argument("--keep", type=Path, default=Path("/tmp/fuzz-pillow"), help="where pictures go that differ")
    args = parser.parse_args()
    # Cut pictures are another's affair.
    ImageFile.LOAD_TRUNCATED_IMAGES = False

    counts = collections.defaultdict(collections.Counter)
    worst, failures, number, start = collections.Counter(), 0, 0, time.time()
    while number < args.pictures:
        # By its number alone, so that a run that was cut goes on with another seed or is repeated.
        rng = random.Random(f"{args.seed} {number}")
        size = rng.choice([32, 64, 96, 98, 112, 160, 224, 256, 336])
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            drawn = {}
            while len(drawn) < CHUNK and number < args.pictures:
                case = write(rng, folder, number)
                if case:
                    drawn[case[0]] = case[1:]
                    number += 1
            tensors, refused = ours(args.aim_bench, list(drawn), size, folder)
            for path, (form, what) in drawn.items():
                counts[form]["pictures"] += 1
                expected = reference(path, size)
                if path in refused:
                    reason = refused[path]
                elif np.array_equal(tensors[path], expected):
                    continue
                else:
                    difference = np.abs(levels(tensors[path]) - levels(expected))
                    most = int(difference.max())
                    counts[form]["differ"] += 1
                    worst[form] = max(worst[form], most)
                    if form == "cmyk" and most <= args.levels:
                        continue
                    reason = f"{np.count_nonzero(difference)} values differ, by {most} levels at most"
                failures += 1
                counts[form]["failed"] += 1
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{args.seed}-{path.name}").write_bytes(path.read_bytes())
                print(f"{args.seed}-{path.name}: {what}, to {size}: {reason}", flush=True)
        print(f"{number} pictures, {time.time() - start:.0f} s", file=sys.stderr, flush=True)

    print(f"{'format':8} {'pictures':>9} {'differ':>7} {'levels':>7} {'failed':>7}")
    for form in [*FORMATS, "cmyk"]:
        row = counts[form]
        print(f"{form:8} {row['pictures']:9} {row['differ']:7} {worst[form]:7} {row['failed']:7}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
