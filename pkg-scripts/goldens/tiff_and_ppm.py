"""Writes tests/pictures/native: small TIFF and PPM files in many layouts, and what Pillow makes of them.

    python3 pkg-scripts/goldens/tiff_and_ppm.py    # with Pillow 13 and NumPy
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/pictures/native"

source = Image.open(ROOT / "tests/photos/neither/chelsea.png").convert("RGB").resize((31, 23))
source.info.clear()  # its colour profile is larger than it
grey = source.convert("L")
bits = source.convert("1")
rgb = np.asarray(source)
levels = np.asarray(grey)
height, width, _ = rgb.shape
OUT.mkdir(exist_ok=True)


def save(name, picture, **options):
    picture.save(OUT / name, **options)


def write(name, kind, largest, body):
    largest = b"" if largest is None else b"%d\n" % largest
    (OUT / name).write_bytes(b"%s\n# a comment\n%d %d\n%s" % (kind, width, height, largest) + body)


def digits(values):
    return b"\n".join(b" ".join(b"%d" % v for v in row) for row in values.reshape(height, -1)) + b"\n"


for compression, name in [
    (None, "raw"), ("tiff_lzw", "lzw"), ("tiff_adobe_deflate", "deflate"), ("packbits", "packbits"),
]:
    save(f"rgb_{name}.tif", source, compression=compression)
save("rgb_predictor.tif", source, compression="tiff_lzw", tiffinfo={317: 2})
save("rgba.tif", source.convert("RGBA"))
save("grey.tif", grey)
save("grey_white_is_zero.tif", grey, tiffinfo={262: 0})
save("bit.tif", bits)
save("bit_group4.tif", bits, compression="group4")
save("cmyk.tif", source.convert("CMYK"), compression="tiff_lzw")
for number in range(1, 9):
    save(f"orientation_{number}.tif", source, compression="tiff_lzw", tiffinfo={274: number})
save("pages.tif", source, save_all=True, append_images=[grey])
write("p6.ppm", b"P6", 255, rgb.tobytes())
write("p6_16.ppm", b"P6", 65535, (rgb.astype(">u2") * 257).astype(">u2").tobytes())
write("p5.pgm", b"P5", 255, levels.tobytes())
write("p4.pbm", b"P4", None, np.packbits(~np.asarray(bits), axis=1).tobytes())
write("p3.ppm", b"P3", 255, digits(rgb))
write("p2.pgm", b"P2", 255, digits(levels))
write("p1.pbm", b"P1", None, digits(~np.asarray(bits)))

# Refused, each by its kind.
save("palette.tif", source.quantize(16))
save("lab.tif", source.convert("LAB"))
save("floats.tif", source.convert("F"))
save("zstd.tif", source, compression="zstd")

files = []
for path in sorted(OUT.iterdir()):
    if path.stem in ("palette", "lab", "floats", "zstd"):
        files.append({"file": path.name})
        continue
    decoded = Image.open(path).convert("RGB")
    files.append({
        "file": path.name,
        "wh": list(decoded.size),
        "rgb": hashlib.sha256(decoded.tobytes()).hexdigest(),
    })
text = json.dumps(files, indent=1)
(ROOT / "tests/pictures/native.json").write_text(text + "\n")
