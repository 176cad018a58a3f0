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
# CutMix: the share of garments and negatives that are mixed, by progress.
MIXED = [(0.0, 0.3), (0.8, 0.0)]
# The block (from 0) whose output learns the teacher's maps.
GUIDED_BLOCK = 3
SMOOTHING = 0.05
CHECK_EVERY = 500


def scheduled(table, progress):
    return [value for start, value in table if progress >= start][-1]


def train_probe(model, batches, log, pictures=6000, epochs=12, batch=128):
    """AIM's own protocol: the trunk stays as pre-trained, only the head learns."""
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


def parameter_groups(model, teaching, rate, decay, layer_decay):
    """Lower rates for earlier layers; no weight decay on vectors."""
    groups, blocks = {}, model.config["num_blocks"]
    named = [*model.named_parameters(), *((f"teaching.{n}", p) for n, p in teaching.named_parameters())]
    named = [(n, p) for n, p in named if p.requires_grad]
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


class Teaching(nn.Module):
    """What compares the student with the teachers; thrown away after training.

    The mean of the probed tokens must tell, by a linear map, the pooled features of the untuned
    teacher, and so ImageNet's thousand classes: what makes frozen features fit for other labels."""

    def __init__(self, dim, banks, imagenet):
        super().__init__()
        features = torch.cat([torch.from_numpy(np.asarray(bank.features[0], np.float32)) for bank in banks])
        maps = torch.cat([
            torch.from_numpy(np.asarray(bank.maps[0, :500], np.float32)).permute(0, 2, 3, 1).flatten(0, 2)
            for bank in banks
        ])
        self.general = nn.Linear(dim, features.shape[1])
        self.maps = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, maps.shape[1]))
        self.imagenet = imagenet.requires_grad_(False)
        for name, sample in (("feature", features), ("map", maps)):
            self.register_buffer(f"{name}_mean", sample.mean(0))
            self.register_buffer(f"{name}_deviation", sample.std(0) + 0.05)

    def feature_losses(self, tokens, wanted):
        """The error in standard deviations, and the divergence of the thousand probabilities."""
        guess = self.general(tokens)
        target = (wanted - self.feature_mean) / self.feature_deviation
        error = (guess - target.clamp(-4, 4)).pow(2).mean()
        told = self.imagenet(guess * self.feature_deviation + self.feature_mean)
        names = F.kl_div(
            F.log_softmax(told, 1), F.log_softmax(self.imagenet(wanted), 1),
            log_target=True, reduction="batchmean",
        )
        return error, names

    def map_loss(self, tokens, wanted):
        target = (wanted - self.map_mean) / self.map_deviation
        return (self.maps(tokens) - target.clamp(-4, 4)).pow(2).mean()


def loss_of(model, teaching, drawn, tokens, adjustment, bf16=False):
    x = drawn["pictures"]
    side = model.config["img_size"] // model.config["patch_size"]
    keep = None if tokens >= side**2 else random_keep(len(x), side**2, tokens)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = model.features(normalise(x), keep)
        probed = model.probed(features)
        logits = model.head(probed).float()
        probed, guiding = probed.float(), features[GUIDED_BLOCK].float()
    label = F.cross_entropy(logits + adjustment, drawn["labels"], label_smoothing=SMOOTHING)

    # The tuned teacher knows no digits: its eleven classes get all the probability.
    answers = drawn["answers"]
    answer = -(answers * F.log_softmax(logits[: len(answers)], dim=1)[:, TAUGHT]).sum(1).mean()

    # The untuned one says what every picture is like, and guides the trunk's middle at every patch.
    taught, maps = len(drawn["features"]), drawn["maps"]
    error, names = teaching.feature_losses(probed[:taught].mean(1), drawn["features"])
    if keep is not None:
        maps = maps.gather(1, keep[:taught, :, None].expand(-1, -1, maps.shape[2]))
    guided = teaching.map_loss(guiding[:taught], maps)
    parts = dict(label=label, answer=answer, features=error, names=names, maps=guided)
    return label + answer + error + 0.3 * names + 0.5 * guided, parts


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
             rank=0, workers=1, imagenet=None, bf16=False):
    """Resumes from `checkpoint`. With `minutes` the schedule follows the clock as well, for
    machines whose speed isn't known: whichever of steps and minutes is further. Each of the
    `workers` processes computes its share of the batch; the first one keeps the books."""
    banks = [batches.clothing, batches.negatives, batches.known_hands]
    teaching = Teaching(model.config["embed_dim"], banks, imagenet)
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
        log("validation " + " ".join(f"{n} {s:.3f} ({c:.3f})" for n, (s, c) in scores.items()))
        if on_check:
            on_check(average, scores)

    losses, started, seen = [], time.time(), 0
    if workers > 1:
        for p in shared:
            dist.broadcast(p.data, 0)
    tick = time.time()
    while progress < 1:
        tokens, mixed = scheduled(TOKENS, progress), scheduled(MIXED, progress)
        warm = min(1.0, (step + 1) / 150)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * warm * (0.5 * (1 + math.cos(math.pi * progress)) + 0.003)
        model.train()
        drawn = batches.draw(batch // workers, mixed)
        loss, parts = loss_of(model, teaching, drawn, tokens, batches.adjustment, bf16)
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
        if rank == 0 and (step % CHECK_EVERY == 0 or progress >= 1):
            check()
        if rank == 0 and (step % 100 == 0 or progress >= 1):
            save()
    return average
