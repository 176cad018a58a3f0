"""Autoregressive pre-training: predict the next patch's pixels under the prefix-causal mask."""

import math
import time

import torch
import torch.nn.functional as F

from augment import affine, jitter_colours, some, warp
from data import SIZE, normalise, to_unit
from model import Aim, PixelHead, prefix_causal_mask


def patches_of(pixels, patch):
    """[B, N, C*p*p], each patch with mean 0 and deviation 1, as the targets are."""
    patches = F.unfold(pixels, patch, stride=patch).transpose(1, 2)
    mean = patches.mean(-1, keepdim=True)
    return (patches - mean) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def loss_of(model, head, pixels, bf16=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        tokens = model.tokens(pixels)
        batch, count = tokens.shape[:2]
        prefix = torch.randint(1, count, (batch,))
        x = model.trunk(tokens, prefix_causal_mask(prefix, count))[-1]
        predicted = head(model.trunk.post_trunk_norm(x[:, :-1])).float()
    wanted = patches_of(pixels, model.config["patch_size"])[:, 1:]
    # Token i predicts patch i + 1; what the prefix already shows is not scored.
    scored = torch.arange(1, count)[None, :] >= prefix[:, None]
    return (predicted - wanted).pow(2).mean(-1)[scored].mean()


def schedule(step, steps, warmup):
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1, done))) + 0.01


def pretrain(config, arrays, checkpoint, steps, batch=96, rate=1e-3, log=print, bf16=False):
    """Trains on the u8 squares in `arrays`; resumes from `checkpoint`."""
    model, head = Aim(config), PixelHead(config["embed_dim"], 3 * config["patch_size"] ** 2)
    parameters = [*model.preprocessor.parameters(), *model.trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.95), weight_decay=0.05)
    step, losses, started = 0, [], time.time()
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        head.load_state_dict(saved["head"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    lengths = torch.tensor([len(array) for array in arrays], dtype=torch.float)

    def save():
        state = dict(model=model.state_dict(), head=head.state_dict(), step=step)
        partial = checkpoint.with_suffix(".partial")
        torch.save(dict(state, optimizer=optimizer.state_dict()), partial)
        partial.rename(checkpoint)

    while step < steps:
        chosen = torch.multinomial(lengths, batch, replacement=True)
        squares = [arrays[i][int(torch.randint(0, len(arrays[i]), ()))] for i in chosen]
        pixels = to_unit(torch.stack([torch.from_numpy(s.copy()) for s in squares]))
        matrices = affine(batch, zoom=(0.4, 1.0), aspect=(0.8, 1.25), degrees=5, shift=0.0)
        pixels = some(warp(pixels, matrices, SIZE), 0.5, jitter_colours)
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(step, steps, 100)
        loss = loss_of(model, head, normalise(pixels), bf16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        step += 1
        if step % 20 == 0:
            speed = batch * len(losses) / (time.time() - started)
            log(f"pretrain {step}/{steps} loss {sum(losses[-20:]) / 20:.4f} {speed:.0f} pictures/s")
        if step % 40 == 0 or step == steps:
            save()
    return model
