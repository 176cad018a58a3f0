"""The probe on the frozen trunk, then the fine-tuning of everything with a teacher."""

import copy
import math
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from data import normalise
from evaluate import accuracy
from export import settle_batch_norm
from model import random_keep
from samples import TAUGHT

# Patch dropout: the share of tokens trained on, by progress. Few at first, all at the end.
TOKENS = [(0.0, 32), (0.8, 64)]
# The block (from 0) whose output learns the teacher's maps.
GUIDED_BLOCK = 3


def train_probe(model, batches, checkpoint, log, pictures=6000, epochs=12, batch=128):
    """AIM's own protocol: the trunk stays as pre-trained, only the head learns."""
    if checkpoint.exists():
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
        return
    model.eval()
    inputs, labels = [], []
    with torch.no_grad():
        while sum(map(len, labels)) < pictures:
            drawn = batches.draw(batch)
            inputs.append(model.probed(model.features(normalise(drawn["pictures"]))).half())
            labels.append(drawn["labels"])
    inputs, labels = torch.cat(inputs), torch.cat(labels)
    optimizer = torch.optim.AdamW(model.head.parameters(), 3e-3, weight_decay=0.02)
    model.head.train()
    steps, step = epochs * (len(labels) // batch), 0
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = F.cross_entropy(model.head(inputs[chosen].float()), labels[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    model.eval()
    log(f"probe: last loss {loss.item():.3f}")
    torch.save(model.state_dict(), checkpoint)


def parameter_groups(model, teaching, rate, decay, layer_decay):
    """Lower rates for earlier layers; no weight decay on vectors."""
    groups, blocks = {}, model.config["num_blocks"]
    named = [*model.named_parameters(), *((f"teaching.{n}", p) for n, p in teaching.named_parameters())]
    for name, parameter in named:
        if name.startswith("preprocessor"):
            depth = blocks + 1
        elif name.startswith("trunk.blocks"):
            depth = blocks - int(name.split(".")[2])
        else:
            depth = 0
        wd = decay if parameter.ndim > 1 and "cls_token" not in name else 0.0
        group = groups.setdefault(
            (depth, wd), dict(params=[], weight_decay=wd, peak=rate * layer_decay**depth)
        )
        group["params"].append(parameter)
    return list(groups.values())


class Scale:
    """The teacher's numbers with mean 0 and deviation 1 for each of the last axis."""

    def __init__(self, sample):
        sample = torch.from_numpy(np.asarray(sample, np.float32))
        self.mean, self.deviation = sample.mean(0), sample.std(0) + 0.05

    def __call__(self, x):
        return ((x - self.mean) / self.deviation).clamp(-4, 4)


class Teaching(nn.Module):
    """What compares the student with the teacher; thrown away after training."""

    def __init__(self, dim, bank):
        super().__init__()
        self.pooled = nn.Linear(dim, bank.features.shape[-1])
        self.maps = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, bank.maps.shape[2]))
        self.feature_scale = Scale(bank.features[0])
        maps = np.asarray(bank.maps[0, :500], np.float32)
        self.map_scale = Scale(maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]))


def loss_of(model, teaching, drawn, tokens):
    x, y = drawn["pictures"], drawn["labels"]
    side = model.config["img_size"] // model.config["patch_size"]
    keep = None if tokens >= side**2 else random_keep(len(x), side**2, tokens)
    features = model.features(normalise(x), keep)
    pooled = model.head.pool(model.probed(features))
    logits = model.head.linear(pooled)
    loss = F.cross_entropy(logits, y, label_smoothing=0.05)

    # The teacher knows no digits: its eleven classes get all the probability.
    n = len(drawn["logits"])
    wanted = F.softmax(drawn["logits"], dim=1)
    soft = -(wanted * F.log_softmax(logits[:n], dim=1)[:, TAUGHT]).sum(1).mean()
    target = teaching.feature_scale(drawn["features"])
    pooled_loss = (teaching.pooled(pooled[:n]) - target).pow(2).mean()

    # Its inner maps guide the middle of the trunk at every patch.
    guided = len(drawn["maps"])
    maps = drawn["maps"]
    if keep is not None:
        maps = maps.gather(1, keep[:guided, :, None].expand(-1, -1, maps.shape[2]))
    guess = teaching.maps(features[GUIDED_BLOCK][:guided])
    map_loss = (guess - teaching.map_scale(maps)).pow(2).mean()
    parts = dict(label=loss, soft=soft, pooled=pooled_loss, maps=map_loss)
    return loss + soft + 0.5 * pooled_loss + 1.0 * map_loss, parts


def share_gradients(parameters, progress, workers):
    """The mean of all workers' gradients in place; returns the mean progress."""
    if workers == 1:
        return progress
    flat = torch.cat([p.grad.flatten() for p in parameters] + [torch.tensor([progress])])
    dist.all_reduce(flat)
    flat /= workers
    offset = 0
    for p in parameters:
        p.grad.copy_(flat[offset : offset + p.numel()].view_as(p))
        offset += p.numel()
    return float(flat[-1])


def finetune(model, batches, checkpoint, log, steps, minutes=None, batch=64, rate=3.5e-4,
             layer_decay=0.97, weight_decay=0.05, validation=None, on_check=None,
             rank=0, workers=1):
    """Resumes from `checkpoint`. With `minutes` the schedule follows the clock as well, for
    machines whose speed isn't known: whichever of steps and minutes is further. Each of the
    `workers` processes computes its share of the batch; the first one keeps the books."""
    teaching = Teaching(model.config["embed_dim"], batches.clothing)
    groups = parameter_groups(model, teaching, rate, weight_decay, layer_decay)
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    # The final norm has no part in classification and so no gradient.
    shared = [p for g in groups for p in g["params"] if p is not model.trunk.post_trunk_norm.weight
              and p is not model.trunk.post_trunk_norm.bias]
    average = copy.deepcopy(model).eval()
    step, progress = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        teaching.load_state_dict(saved["teaching"])
        peaks = [group["peak"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved["optimizer"])
        for group, peak in zip(optimizer.param_groups, peaks):
            group["peak"] = peak
        step, progress = saved["step"], saved["progress"]
        log(f"resumed at step {step}")

    def save():
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            dict(model=model.state_dict(), average=average.state_dict(),
                 teaching=teaching.state_dict(), optimizer=optimizer.state_dict(),
                 step=step, progress=progress),
            partial,
        )
        partial.rename(checkpoint)

    def check():
        settle_batch_norm(average, batches)
        scores = {name: accuracy(average, *data) for name, data in (validation or {}).items()}
        log("validation " + " ".join(f"{n} {s:.3f}" for n, s in scores.items()))
        if on_check:
            on_check(average, scores)

    losses, started, seen, last_check = [], time.time(), 0, time.time()
    if workers > 1:
        for p in shared:
            dist.broadcast(p.data, 0)
    tick = time.time()
    while progress < 1:
        tokens = max(count for start, count in TOKENS if progress >= start)
        warm = min(1.0, (step + 1) / 150)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * warm * (0.5 * (1 + math.cos(math.pi * progress)) + 0.003)
        model.train()
        loss, parts = loss_of(model, teaching, batches.draw(batch // workers), tokens)
        loss.backward()
        spent = (time.time() - tick) / (60 * minutes) if minutes else 0.0
        tick = time.time()
        progress = min(1.0, share_gradients(shared, progress + max(1 / steps, spent), workers))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        keep = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            for a, b in zip(average.parameters(), model.parameters()):
                a.lerp_(b, 1 - keep)
        losses.append([part.item() for part in parts.values()])
        seen += batch
        if rank == 0 and step % 25 == 0:
            means = np.mean(losses[-25:], axis=0)
            shown = " ".join(f"{name} {mean:.3f}" for name, mean in zip(parts, means))
            log(f"finetune {step} ({progress:.1%}) {shown} "
                f"tokens {tokens} {seen / (time.time() - started):.0f} pictures/s")
        if time.time() - last_check > 480 or progress >= 1:
            last_check = time.time()
            if rank == 0:
                check()
        if rank == 0 and (step % 100 == 0 or progress >= 1):
            save()
    return average
