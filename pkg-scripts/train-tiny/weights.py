"""Reads a model's folder, in floats as `export.py` writes it or in 8 bits as `aim-bench convert` does."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from data import LABELS
from model import Aim


def dequantise(packed, scales, biases):
    """MLX's layout: u32 [rows, columns / 4] of four bytes each, the lowest first; scale and bias of
    each group of columns."""
    codes = packed.contiguous().view(torch.uint8).float()
    rows, groups = scales.shape
    codes = codes.view(rows, groups, -1)
    return (codes * scales.float()[..., None] + biases.float()[..., None]).view(rows, -1)


def read_state(folder):
    """The tensors of all files of the folder, in f32, by the names of `Aim`."""
    stored = {}
    for path in sorted(Path(folder).glob("model*.safetensors")):
        stored.update(load_file(path))
    state = {}
    for name, tensor in stored.items():
        matrix = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if f"{matrix}.scales" in stored:
            tensor = dequantise(tensor, stored[f"{matrix}.scales"], stored[f"{matrix}.biases"])
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def read_config(folder):
    """The model's shape, without how its file is quantised."""
    config = json.loads((Path(folder) / "config.json").read_text())
    bits = config.pop("quantization", {"bits": 8})["bits"]
    if bits != 8:
        raise SystemExit(f"{folder} is in {bits} bits: 8 bits and floats can be read")
    return config


def load(folder):
    """The model, ready to answer."""
    labels = json.loads((Path(folder) / "labels.json").read_text())
    if labels != LABELS:
        raise SystemExit(f"the labels in {folder} are not this script's")
    model = Aim(read_config(folder))
    fill(model, read_state(folder))
    return model.eval()


def fill(model, state):
    """Only what never has a part in classification may be missing."""
    allowed = {"head.bn.num_batches_tracked", "trunk.post_trunk_norm.weight", "trunk.post_trunk_norm.bias"}
    missing, unknown = model.load_state_dict(state, strict=False)
    if unknown or set(missing) - allowed:
        raise SystemExit(f"these weights are not of this graph: missing {missing}, unknown {unknown}")
