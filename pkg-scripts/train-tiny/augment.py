"""Augmentation of whole batches as tensors: geometry, colour, pasted hands, made-up pictures."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage


def uniform(n, low, high):
    return torch.empty(n).uniform_(low, high)


def affine(n, zoom, aspect, degrees, shift, flip=0.5):
    """[n,2,3] matrices for `warp`; a zoom under 1 shows a smaller part of the picture."""
    z = torch.exp(uniform(n, math.log(zoom[0]), math.log(zoom[1])))
    a = torch.exp(uniform(n, math.log(aspect[0]) / 2, math.log(aspect[1]) / 2))
    angle = uniform(n, -degrees, degrees) * math.pi / 180
    sign = torch.where(torch.rand(n) < flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    room = (1 - z).abs() + shift
    tx, ty = uniform(n, -1, 1) * room, uniform(n, -1, 1) * room
    rows = torch.stack(
        [z * a * cos * sign, -z * a * sin, tx, z / a * sin * sign, z / a * cos, ty], dim=1
    )
    return rows.view(n, 2, 3)


def warp(pictures, matrices, size, padding="reflection"):
    """Samples [B,C,H,W] by the matrices, twice as dense as `size` and averaged down."""
    n, channels = pictures.shape[:2]
    dense = size * 2 if pictures.shape[-1] > size * 1.5 else size
    grid = F.affine_grid(matrices, (n, channels, dense, dense), align_corners=False)
    out = F.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)
    return F.avg_pool2d(out, dense // size) if dense != size else out


def jitter_colours(x, brightness=0.3, contrast=0.3, saturation=0.4, tint=0.08, gamma=0.25):
    """Light and colour of each picture [B,3,H,W] in 0..1."""
    n = len(x)
    view = lambda t: t.view(n, -1, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * view(1 + uniform(n, -saturation, saturation))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * view(1 + uniform(n, -contrast, contrast))
    x = x * view(1 + uniform(n, -brightness, brightness))
    x = x * (1 + torch.empty(n, 3, 1, 1).uniform_(-tint, tint))
    return x.clamp(0, 1).pow(view(torch.exp(uniform(n, -gamma, gamma))))


def some(x, share, change):
    """Applies `change` to a random share of the batch."""
    chosen = torch.rand(len(x)) < share
    if chosen.any():
        x = x.clone()
        x[chosen] = change(x[chosen])
    return x


def shade(x):
    """A soft light from one side."""
    n, size = len(x), x.shape[-1]
    ramp = torch.empty(n, 1, 2, 2).uniform_(0.55, 1.25)
    ramp = F.interpolate(ramp, size=size, mode="bilinear", align_corners=True)
    return (x * ramp).clamp(0, 1)


def blur(x):
    small = F.interpolate(x, scale_factor=1 / float(uniform(1, 1.3, 2.5)), mode="area")
    return F.interpolate(small, size=x.shape[-1], mode="bilinear", align_corners=False)


def add_noise(x):
    return (x + torch.randn_like(x) * uniform(len(x), 0.01, 0.06).view(-1, 1, 1, 1)).clamp(0, 1)


def erase(x):
    """A random rectangle of each picture becomes one colour."""
    size = x.shape[-1]
    for picture in x:
        height, width = (int(v) for v in torch.randint(size // 8, size // 2, (2,)))
        top = int(torch.randint(0, size - height + 1, (1,)))
        left = int(torch.randint(0, size - width + 1, (1,)))
        picture[:, top : top + height, left : left + width] = torch.rand(3, 1, 1)
    return x


def cut_and_mix(drawn, share, patch):
    """A random share of the pictures gets a rectangle of whole patches of another picture (CutMix);
    its maps [n,N,C] go along, and all else [n,K] is mixed by area."""
    x, maps = drawn["pictures"], drawn["maps"]
    n, side = len(x), x.shape[-1] // patch
    area = torch.rand(n) * (torch.rand(n) < share)
    stretch = torch.exp(uniform(n, -0.4, 0.4))
    line = torch.arange(side)[None]

    def span(length):
        """[n, side] booleans: a run of that many patches at a random place."""
        length = length.clamp(0, 1).mul(side).round()
        first = (torch.rand(n) * (side - length + 1)).floor()
        return (line >= first[:, None]) & (line < (first + length)[:, None])

    inside = span((area * stretch).sqrt())[:, :, None] & span((area / stretch).sqrt())[:, None]
    other = torch.randperm(n)
    pixels = inside.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
    part = inside.float().mean((1, 2))[:, None]
    mixed = {key: value * (1 - part) + value[other] * part
             for key, value in drawn.items() if key not in ("pictures", "maps")}
    mixed["pictures"] = torch.where(pixels, x[other], x)
    mixed["maps"] = torch.where(inside.flatten(1)[:, :, None], maps[other], maps)
    return mixed


def shuffle_tiles(x):
    """The picture's tiles in random order: its colours and textures without its shape."""
    size = x.shape[-1]
    tile = [size // 8, size // 4][int(torch.randint(0, 2, (1,)))]
    k = size // tile
    n, c = x.shape[:2]
    tiles = x[..., : k * tile, : k * tile].view(n, c, k, tile, k, tile)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(n, k * k, c, tile, tile)
    order = torch.rand(n, k * k).argsort(1)
    tiles = tiles[torch.arange(n)[:, None], order].view(n, k, k, c, tile, tile)
    out = tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, c, k * tile, k * tile)
    return F.interpolate(out, size=size) if k * tile != size else out


def made_up(n, size):
    """Noise of every grain from a smooth gradient to pixels, grey or coloured, stripes too."""
    out = []
    for _ in range(n):
        grain = int(2 ** float(uniform(1, 1, math.log2(size))))
        rows = grain if torch.rand(()) < 0.7 else 1
        channels = 3 if torch.rand(()) < 0.6 else 1
        noise = torch.rand(1, channels, rows, grain)
        mode = "bicubic" if torch.rand(()) < 0.7 else "nearest"
        kwargs = {"align_corners": False} if mode == "bicubic" else {}
        picture = F.interpolate(noise, size=(size, size), mode=mode, **kwargs).expand(1, 3, -1, -1)
        spread, level = float(uniform(1, 0.05, 1.0)), torch.rand(1, 3, 1, 1)
        if torch.rand(()) < 0.5:
            picture = picture.transpose(2, 3)
        out.append((picture - 0.5) * spread + level)
    return torch.cat(out).clamp(0, 1)


def hand_mask(square):
    """Soft mask [H,W] in 0..1 of the hand before a plain wall, by its warmer colour."""
    pixels = square.astype(np.float32)
    warmth = (pixels[..., 0] - pixels[..., 2]) / (pixels.sum(-1) + 30)
    warmth = ndimage.gaussian_filter(warmth, 1.5)
    low, high = np.percentile(warmth, [2, 98])
    levels = np.linspace(low, high, 64)
    # Otsu: the threshold that parts the warmth into the two most distinct groups.
    best, threshold = -1.0, levels[32]
    for level in levels[4:-4]:
        above = warmth > level
        share = above.mean()
        if 0 < share < 1:
            gap = warmth[above].mean() - warmth[~above].mean()
            if share * (1 - share) * gap**2 > best:
                best, threshold = share * (1 - share) * gap**2, level
    parts, count = ndimage.label(warmth > threshold)
    if count == 0:
        return np.zeros(warmth.shape, np.float32)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, np.arange(1, count + 1))
    mask = parts == 1 + int(np.argmax(sizes))
    holes, count = ndimage.label(~mask)
    for i in range(1, count + 1):
        # Small holes are highlights; the large hole of a 0 is background.
        if (holes == i).sum() < 0.003 * mask.size:
            mask[holes == i] = True
    mask = ndimage.binary_erosion(mask, iterations=1)
    return ndimage.gaussian_filter(mask.astype(np.float32), 1.2)


def shift_skin(rgb):
    """Lighter, darker, redder and paler hands than the one school's."""
    n = len(rgb)
    tone = torch.exp(uniform(n, math.log(0.35), math.log(1.25))).view(n, 1, 1, 1)
    warm = uniform(n, -0.12, 0.12).view(n, 1)
    gain = torch.cat([1 + warm, torch.ones(n, 1), 1 - warm], dim=1).view(n, 3, 1, 1)
    return (rgb * tone * gain).clamp(0, 1)


def paste_hands(hands, backgrounds):
    """Hands [B,4,H,W] (colour, mask) at a random place, size and angle on the backgrounds."""
    matrices = affine(len(hands), zoom=(0.75, 1.8), aspect=(0.85, 1.18), degrees=35, shift=0.08)
    premultiplied = torch.cat([hands[:, :3] * hands[:, 3:], hands[:, 3:]], dim=1)
    moved = warp(premultiplied, matrices, backgrounds.shape[-1], padding="zeros")
    return shift_skin(moved[:, :3]) + backgrounds * (1 - moved[:, 3:])
