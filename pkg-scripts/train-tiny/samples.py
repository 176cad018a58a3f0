"""What a training batch is made of."""

import numpy as np
import torch
import torch.nn.functional as F

from augment import (
    add_noise, affine, blur, cut_and_mix, erase, hand_mask, jitter_colours, made_up, paste_hands,
    shade, shuffle_tiles, some, warp,
)
from data import GARMENTS, LABELS, NEITHER, SIZE, cached, to_unit
from model import TINY

NEITHER_INDEX = LABELS.index(NEITHER)
HAND_SIDE = 128
NEGATIVE_SIDE = 160
PATCH = TINY["patch_size"]
# Where the teacher's eleven classes are among the student's labels.
TAUGHT = [LABELS.index(name) for name in [*GARMENTS, NEITHER]]
# A class of n pictures is drawn n**BALANCE times as often as a class of one: 1 is nature's share.
BALANCE = 0.5


def balanced_weights(labels):
    """How often each picture is drawn."""
    counts = torch.bincount(labels, minlength=len(LABELS)).clamp(min=1).double()
    return counts[labels] ** (BALANCE - 1)


def garment_adjustment(labels):
    """[21], added to the logits in the loss: the log of how much more often a garment is drawn than
    garments on average, so that the logits without it favour no garment (Menon et al. 2020)."""
    adjustment = torch.zeros(len(LABELS))
    counts = torch.bincount(labels, minlength=len(LABELS)).float()
    known = [LABELS.index(name) for name in GARMENTS if counts[LABELS.index(name)] > 0]
    drawn = counts[known] ** BALANCE
    adjustment[known] = (drawn / drawn.mean()).log()
    return adjustment


def cut_out_hands(squares, path):
    """u8 [N,128,128,4]: the hands and their masks."""

    def make():
        out = []
        for square in squares:
            rgb = smaller(square[None], HAND_SIDE)[0]
            mask = (hand_mask(rgb) * 255).astype(np.uint8)
            out.append(np.concatenate([rgb, mask[..., None]], axis=2))
        return np.stack(out)

    return cached(path, make)


def smaller(squares, size=NEGATIVE_SIDE):
    """u8 squares at another size."""
    x = F.interpolate(to_unit(np.asarray(squares)), size=size, mode="bilinear", antialias=True)
    return (x * 255).round().byte().permute(0, 2, 3, 1).numpy()


class Bank:
    """Views with the teachers' answers: maps and general features always, logits where it knows."""

    def __init__(self, prefix, labels, features, logits=None):
        self.views = np.load(prefix.with_suffix(".views.npy"), mmap_mode="r")
        self.maps = np.load(prefix.with_suffix(".early.npy"), mmap_mode="r")
        self.features, self.logits = features, logits
        self.labels = torch.as_tensor(np.array(labels))
        self.weights = balanced_weights(self.labels)

    def draw(self, n):
        """A dict: pictures in 0..1, labels, maps at the patches [n,64,C], features, the
        probabilities that the teacher gives its classes."""
        chosen = torch.multinomial(self.weights, n, replacement=True)
        view = torch.randint(0, len(self.views), (n,))
        pairs = list(zip(view.tolist(), chosen.tolist()))
        side = self.views.shape[2]
        corners = torch.randint(0, side - SIZE + 1, (n, 2))
        x = to_unit(np.stack([
            self.views[v, i, top : top + SIZE, left : left + SIZE]
            for (v, i), (top, left) in zip(pairs, corners.tolist())
        ]))

        def take(array):
            return torch.from_numpy(np.stack([array[pair] for pair in pairs])).float()

        # The teacher's map, read where the middle of each of the student's patches is.
        middle = (torch.arange(0, SIZE, PATCH) + PATCH / 2)[None]
        y = (corners[:, :1] + middle) / side * 2 - 1
        z = (corners[:, 1:] + middle) / side * 2 - 1
        count = middle.shape[1]
        grid = torch.stack(
            [z[:, None].expand(n, count, count), y[:, :, None].expand(n, count, count)], dim=3
        )
        maps = F.grid_sample(take(self.maps), grid, padding_mode="border", align_corners=False)
        flip = torch.rand(n) < 0.5
        x[flip], maps[flip] = x[flip].flip(3), maps[flip].flip(3)
        drawn = dict(
            pictures=x,
            labels=self.labels[chosen],
            maps=maps.flatten(2).transpose(1, 2),
            features=take(self.features),
        )
        if self.logits is not None:
            drawn["answers"] = F.softmax(take(self.logits), dim=1)
        return drawn


class Batches:
    def __init__(self, clothing, negatives, known_hands, negative_squares, hands, hand_labels):
        self.clothing, self.negatives, self.known_hands = clothing, negatives, known_hands
        self.adjustment = garment_adjustment(clothing.labels)
        # A smaller copy is warped in a quarter of the time.
        self.squares = np.concatenate([
            smaller(negative_squares[i : i + 64]) for i in range(0, len(negative_squares), 64)
        ])
        self.hands = hands
        self.hand_labels = torch.as_tensor(np.array(hand_labels))

    def fresh_negatives(self, n):
        chosen = torch.randint(0, len(self.squares), (n,)).tolist()
        x = to_unit(np.stack([self.squares[i] for i in chosen]))
        return warp(x, affine(n, (0.6, 1.0), (0.8, 1.25), 10, 0.0), SIZE)

    def backgrounds(self, n):
        """Photographs, textures, walls, and scrambled rooms with garments."""
        photo, rooms = int(n * 0.45), int(n * 0.2)
        x = torch.cat([
            self.fresh_negatives(max(1, photo)),
            shuffle_tiles(self.clothing.draw(max(1, rooms))["pictures"]),
            made_up(n, SIZE),
        ])[:n]
        return some(some(x[torch.randperm(n)], 0.5, blur), 0.6, jitter_colours)

    def draw_hands(self, n):
        chosen = torch.randint(0, len(self.hands), (n,))
        x = to_unit(np.stack([self.hands[i] for i in chosen.tolist()]))
        pasted = n * 45 // 100
        on_backgrounds = paste_hands(x[:pasted], self.backgrounds(pasted))
        plain = warp(x[pasted:, :3], affine(n - pasted, (0.75, 1.2), (0.85, 1.18), 18, 0.06), SIZE)
        return torch.cat([on_backgrounds, plain]), self.hand_labels[chosen]

    def draw_neither(self, n):
        """Photographs mostly; then scrambled pictures, made-up ones and empty backgrounds."""
        photo, scrambled, made, _ = np.random.multinomial(n, [0.7, 0.12, 0.06, 0.12])
        shapes = torch.cat([self.clothing.draw(2)["pictures"], self.draw_hands(4)[0]])
        shapes = shapes[torch.randint(0, len(shapes), (n,))]
        return torch.cat([
            self.fresh_negatives(max(1, photo))[:photo],
            shuffle_tiles(shapes)[:scrambled],
            made_up(max(1, made), SIZE)[:made],
            self.backgrounds(max(2, n - photo - scrambled - made)),
        ])[:n]

    def draw(self, n, mixed=0.0):
        """A dict: pictures, labels as probabilities [n,21]; maps and general features of the first
        ones, the teacher's answers to still fewer. A share of the garments and negatives is `mixed`."""
        garments, hands, free_hands = n * 54 // 100, n * 9 // 100, n * 10 // 100
        known = n * 16 // 100
        banks = [self.clothing.draw(garments), self.negatives.draw(known)]
        taught = {key: torch.cat([bank[key] for bank in banks]) for key in banks[0]}
        shown = self.known_hands.draw(hands)
        hx, hy = self.draw_hands(free_hands)
        ox = self.draw_neither(n - garments - known - hands - free_hands)

        gently = lambda p: jitter_colours(p, 0.2, 0.2, 0.3, 0.05, 0.15)
        one_hot = lambda labels: F.one_hot(labels, len(LABELS)).float()
        taught["pictures"] = some(taught["pictures"], 0.5, gently)
        taught["labels"] = one_hot(taught["labels"])
        taught = cut_and_mix(taught, mixed, PATCH)
        shown["pictures"] = some(shown["pictures"], 0.5, gently)
        free = some(some(torch.cat([hx, ox]), 0.6, jitter_colours), 0.2, shade)
        pictures = torch.cat([taught["pictures"], shown["pictures"], free])
        pictures = some(some(pictures, 0.1, blur), 0.1, add_noise)
        free_labels = torch.cat([hy, torch.full((len(ox),), NEITHER_INDEX)])
        return dict(
            pictures=some(pictures, 0.08, erase),
            labels=torch.cat([taught["labels"], one_hot(torch.cat([shown["labels"], free_labels]))]),
            maps=torch.cat([taught["maps"], shown["maps"]]),
            features=torch.cat([taught["features"], shown["features"]]),
            answers=taught["answers"],
        )
