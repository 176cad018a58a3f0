"""Writes tests/torch: one small model, saved by PyTorch in all the ways that torch.save has.

    pip install torch safetensors
    python pkg-scripts/torch-fixtures/make.py tests/torch

Each `NAME.bin` holds the tensors of `reference.safetensors`, or of `NAME.safetensors` where its values differ, for
the model of `tests/bad/config_ok.json`. `refused_*.bin` are files that PyTorch writes and that are no state dict of
plain tensors, or can't be read in parts.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.utils.serialization import config

REPOSITORY = Path(__file__).resolve().parents[2]


def floats(tensors):
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def shared(tensors):
    """All of them in one storage, with gaps between."""
    names = [name for name, value in tensors.items() if value.is_floating_point()]
    flat = torch.full((sum(tensors[name].numel() + 3 for name in names),), float("nan"))
    views, at = OrderedDict(tensors), 1
    for name in names:
        size = tensors[name].numel()
        flat[at : at + size] = tensors[name].flatten()
        views[name] = flat[at : at + size].view(tensors[name].shape)
        at += size + 3
    return views


def overlapping(tensors):
    """Norms that lie over each other in one storage."""
    flat = torch.linspace(0.5, 1.5, 16)
    views = OrderedDict(tensors)
    norms = [name for name in tensors if ".norm" in name]
    for at, name in enumerate(norms):
        views[name] = flat[at : at + tensors[name].numel()]
    return views


def transposed(tensors):
    """Matrices column by column, and the convolution with its channels last."""
    views = OrderedDict(tensors)
    for name, value in tensors.items():
        if value.dim() == 2:
            views[name] = value.t().contiguous().t()
        if value.dim() == 4:
            views[name] = value.to(memory_format=torch.channels_last)
    return views


def spread(tensors):
    """Every other element of a larger storage, and one value for a whole vector."""
    views = OrderedDict(tensors)
    for name, value in tensors.items():
        if value.dim() == 2:
            wide = torch.full((value.shape[0] + 1, 2 * value.shape[1]), float("inf"))
            wide[1:, ::2] = value
            views[name] = wide[1:, ::2]
        if name.endswith("proj.bias"):
            views[name] = torch.tensor([0.25]).expand(value.shape)
    return views


def mixed(tensors):
    """Each type of floats."""
    types = [torch.float16, torch.bfloat16, torch.float64, torch.float32]
    return OrderedDict(
        (name, value.to(types[i % 4]) if value.is_floating_point() else value)
        for i, (name, value) in enumerate(tensors.items())
    )


class Model(torch.nn.Module):
    """A module whose state dict has these names, and the `_metadata` of modules."""

    def __init__(self, tensors):
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            if value.is_floating_point() and "running" not in last:
                module.register_parameter(last, torch.nn.Parameter(value))
            else:
                module.register_buffer(last, value)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tensors = OrderedDict(load_file(REPOSITORY / "tests/bad/ok_plain.safetensors"))
    save_file(floats(tensors), out / "reference.safetensors")

    def save(name, value, **options):
        torch.save(value, out / f"{name}.bin", **options)

    save("plain", tensors)
    for protocol in (3, 4, 5):
        save(f"protocol_{protocol}", tensors, pickle_protocol=protocol)
    with open(out / "to_a_buffer.bin", "wb") as file:
        torch.save(tensors, file)
    save("module", Model(tensors).state_dict())
    parameters = OrderedDict((n, torch.nn.Parameter(v) if v.is_floating_point() else v) for n, v in tensors.items())
    save("parameters", parameters)
    save("nested", {"epoch": 3, "state_dict": dict(tensors)})
    save("shared", shared(tensors))
    save("transposed", transposed(tensors))
    for name, make in [("overlapping", overlapping), ("spread", spread), ("mixed", mixed)]:
        made = make(tensors)
        save(name, made)
        save_file({n: v.contiguous().clone() for n, v in floats(made).items()}, out / f"{name}.safetensors")
    for alignment in (1, 16, 256):
        config.save.storage_alignment = alignment
        save(f"aligned_{alignment}", tensors)
    config.save.storage_alignment = 64
    torch.serialization.set_crc32_options(False)
    save("no_checksums", tensors)
    torch.serialization.set_crc32_options(True)

    save("refused_legacy", tensors, _use_new_zipfile_serialization=False)
    save("refused_module", torch.nn.Linear(2, 2))
    save("refused_list", [torch.zeros(2)])
    save("refused_sparse", OrderedDict(tensors, extra=torch.eye(3).to_sparse()))
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(out / "refused_script.bin"))


main()
