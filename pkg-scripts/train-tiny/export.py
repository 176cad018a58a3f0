"""Writes a trained model as the hub mixin saves it: one file in f16, a flat config, the labels."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from data import LABELS, normalise


@torch.no_grad()
def settle_batch_norm(model, batches, count=24, size=96):
    """The head's running statistics, measured anew on whole pictures with the final weights."""
    bn = model.head.bn
    bn.reset_running_stats()
    bn.momentum = None
    model.eval()
    bn.train()
    for _ in range(count):
        model(normalise(batches.draw(size)["pictures"]))
    bn.momentum = 0.1
    model.eval()


def export(model, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (t.half() if t.is_floating_point() else t).contiguous()
        for name, t in model.state_dict().items()
    }
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config, indent=2, sort_keys=True) + "\n")
    (folder / "labels.json").write_text(json.dumps(LABELS, indent=2) + "\n")
