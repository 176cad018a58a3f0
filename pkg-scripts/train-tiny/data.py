"""Folders of photographs as arrays of squares, decoded once and memory-mapped after that."""

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

GARMENTS = [
    "dress", "hat", "longsleeve", "outwear", "pants",
    "shirt", "shoes", "shorts", "skirt", "t-shirt",
]
DIGITS = [str(digit) for digit in range(10)]
NEITHER = "neither"
LABELS = DIGITS + GARMENTS + [NEITHER]

SIZE = 112
CROP_RATIO = 0.875
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
# The stored square holds more detail than the model sees, for zooming and for the teacher.
STORED = 224

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
Image.MAX_IMAGE_PIXELS = None


def pictures_under(folder):
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in EXTENSIONS)


def labelled(folder, names):
    """[(path, label index)] of FOLDER/CLASS/*; every class must be there."""
    found = []
    for name in names:
        paths = pictures_under(Path(folder) / name)
        if not paths:
            raise SystemExit(f"no pictures in {Path(folder) / name}")
        found += [(path, LABELS.index(name)) for path in paths]
    return found


def resize_and_crop(image, size):
    """torchvision's Resize (bicubic, antialiased) and CenterCrop, with its rounding."""
    short_side = math.ceil(size / CROP_RATIO)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_long = int(short_side * long / short)
    new = (short_side, new_long) if width <= height else (new_long, short_side)
    image = image.resize(new, Image.BICUBIC)
    left = int(round((new[0] - size) / 2.0))
    top = int(round((new[1] - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def evaluation_crop(path, size=SIZE):
    with Image.open(path) as image:
        return np.asarray(resize_and_crop(image.convert("RGB"), size))


def central_square(path, size=STORED):
    """The middle square of the picture: every pixel the evaluation crop sees, and a margin."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size, size), Image.BICUBIC, box=box))


def cached(path, make):
    """The array in `path`, made on the first call."""
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        array = make()
        partial = path.with_suffix(".partial.npy")
        np.save(partial, array)
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def split_signers(items, every=12):
    """Holds every 12th signer back: the file names start with signerNNN."""
    train, held = [], []
    for path, label in items:
        match = re.match(r"signer(\d+)", path.name)
        number = int(match.group(1)) if match else sum(path.stem.encode())
        (held if number % every == 5 else train).append((path, label))
    return train, held


def split_every(items, every=14):
    """Holds every 14th picture of a sorted list back."""
    held = items[5::every]
    kept = [item for i, item in enumerate(items) if i % every != 5]
    return kept, held


class Photographs:
    """Labelled pictures: `squares` to train on, or `crops` exactly as inference sees them."""

    def __init__(self, items, work, name):
        self.labels = np.array([label for _, label in items])
        self.items, self.work, self.name = items, Path(work), name
        listing = self.work / f"{name}.list.json"
        now = [str(path) for path, _ in items]
        if listing.exists() and json.loads(listing.read_text()) != now:
            raise SystemExit(f"the pictures of {name} changed: use a new --work folder")
        self.work.mkdir(parents=True, exist_ok=True)
        listing.write_text(json.dumps(now))

    def __len__(self):
        return len(self.items)

    @property
    def squares(self):
        make = lambda: np.stack([central_square(path) for path, _ in self.items])
        return cached(self.work / f"{self.name}.squares.npy", make)

    @property
    def crops(self):
        make = lambda: np.stack([evaluation_crop(path) for path, _ in self.items])
        return cached(self.work / f"{self.name}.crops.npy", make)


def to_unit(u8):
    """u8 [B,H,W,C] (array or tensor) to floats in 0..1, [B,C,H,W]."""
    u8 = torch.from_numpy(np.array(u8)) if isinstance(u8, np.ndarray) else u8
    return u8.permute(0, 3, 1, 2).float() / 255


def normalise(unit):
    return (unit - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)
