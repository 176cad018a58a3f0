#!/usr/bin/env python3
"""What fuzzing begins with: the files of the tests, and small ones of the kinds that the tests make as they run.

    python3 fuzz/seeds.py CORPUS

writes CORPUS/TARGET/* for every target. Only Python's own library is needed.
"""

import json
import random
import struct
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
# As pkg-scripts/fuzz.sh has it: larger inputs are read slower and find no more.
MOST = {"mlx": 20_480}
MOST_OF_OTHERS = 12_288

ENDINGS = {
    "bmp": ["bmp"],
    "gif": ["gif"],
    "jpeg": ["jpg"],
    "png": ["png"],
    "pnm": ["pbm", "pgm", "ppm"],
    "tiff": ["tif"],
    "webp": ["webp"],
}

TINY = {
    "img_size": 4, "patch_size": 2, "embed_dim": 4, "num_blocks": 1, "num_heads": 1, "num_channels": 3,
    "probe_layers": [0], "num_classes": 10,
}  # fmt: skip


def layout(dim, classes):
    """The tensors of a model with one block: name and shape."""
    yield "preprocessor.patchifier.proj.weight", [dim, 3, 2, 2]
    yield "preprocessor.patchifier.proj.bias", [dim]
    yield "preprocessor.patchifier.norm.weight", [dim]
    yield "preprocessor.patchifier.norm.bias", [dim]
    yield "head.bn.running_mean", [dim]
    yield "head.bn.running_var", [dim]
    yield "head.cls_token", [1, 1, dim]
    yield "head.k.weight", [dim, dim]
    yield "head.v.weight", [dim, dim]
    yield "head.linear.weight", [classes, dim]
    for norm in ("norm_1", "norm_2"):
        yield f"trunk.blocks.0.{norm}.weight", [dim]
        yield f"trunk.blocks.0.{norm}.bias", [dim]
    yield "trunk.blocks.0.attn.qkv.weight", [3 * dim, dim]
    yield "trunk.blocks.0.attn.proj.weight", [dim, dim]
    yield "trunk.blocks.0.mlp.fc1.weight", [4 * dim, dim]
    yield "trunk.blocks.0.mlp.fc2.weight", [dim, 4 * dim]
    yield "trunk.post_trunk_norm.weight", [dim]
    yield "trunk.post_trunk_norm.bias", [dim]


LINEAR = ("head.k.", "head.v.", "head.linear.", "qkv.", "attn.proj.", "fc1.", "fc2.")
BYTES = {"F16": 2, "F32": 4, "U32": 4}


def safetensors(tensors, metadata=None):
    """A file of tensors (name, type, shape), each element of which is one."""
    one = {"F16": struct.pack("<e", 1), "F32": struct.pack("<f", 1), "U32": struct.pack("<I", 0x76543210)}
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, dtype, shape in tensors:
        count = 1
        for side in shape:
            count *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + count * BYTES[dtype]]}
        data += one[dtype] * count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def mlx(bits):
    """A small model whose matrices are quantised."""
    tensors = []
    for name, shape in layout(32, 3):
        if not any(part in name for part in LINEAR):
            tensors.append((name, "F16", shape))
            continue
        rows, columns = shape
        stem = name.removesuffix("weight")
        tensors.append((name, "U32", [rows, columns * bits // 32]))
        tensors.append((stem + "scales", "F16", [rows, columns // 32]))
        tensors.append((stem + "biases", "F16", [rows, columns // 32]))
    return safetensors(tensors, {"format": "mlx"})


def heads():
    """Heads that were taught, whole and compact."""
    for kind in ("attention", "linear", "mean"):
        trunk = {"name": "user/model@main", "arch": "aim-600M", "sha256": "ab" * 32}
        config = TINY | {"num_classes": 2, "head": kind, "trunk": trunk}
        metadata = {"format": "pt", "aim.config": json.dumps(config), "aim.labels": '["a", "b"]'}
        whole = [(name, "F16", shape) for name, shape in layout(4, 2) if name.startswith("head.")]
        yield safetensors(whole, metadata)
        compact = [("compact.mean", "F32", [4]), ("compact.linear", "F16", [2, 1, 4])]
        if kind == "attention":
            compact.insert(1, ("compact.queries", "F16", [1, 4]))
        yield safetensors(compact + [("lesson.features", "F32", [2])], metadata)


def pickles():
    """The pickles of archives, behind how many storages there are and their sizes."""
    for path in files("pth", "bin"):
        try:
            with zipfile.ZipFile(path) as archive:
                entries = {info.filename.split("/", 1)[-1]: info for info in archive.infolist()}
                pickle = archive.read(entries["data.pkl"])
        except (zipfile.BadZipFile, KeyError, OSError):
            continue
        keys = [int(name[5:]) for name in entries if name[5:].isdigit() and name.startswith("data/")]
        count = min(max(keys, default=-1) + 1, 255)
        sizes = [entries[f"data/{key}"].file_size // 4 if f"data/{key}" in entries else 0 for key in range(count)]
        yield bytes([count]) + bytes(min(size, 255) for size in sizes) + pickle


def records():
    """What lies in a cache: the record, the listing, a small file, weights."""
    weights = (TESTS / "bad/ok_plain.safetensors").read_bytes()
    config = json.dumps(TINY).encode()
    hash = "0" * 64
    names = ("labels.json", "aim.manifest.json", "model.safetensors.index.json")
    texts = dict.fromkeys(names) | {"config.json": hash}
    pins = {"model.safetensors": {"len": len(weights), "etag": '"v1"'}}
    record = {"commit": None, "texts": texts, "pins": pins}
    yield b"\0".join([json.dumps(record).encode(), b"", config, weights])
    commit = "1" * 40
    sizes = {"config.json": len(config), "model.safetensors": len(weights)}
    listed = {
        name: {"size": size, "sha256": None, "oid": "c0ffee", "blob": None} for name, size in sizes.items()
    }
    listed["model.safetensors"] |= {"sha256": hash, "oid": hash}
    listing = {"commit": commit, "files": listed}
    parts = [json.dumps(record | {"commit": commit}), json.dumps(listing)]
    yield b"\0".join([part.encode() for part in parts] + [config, weights])


def listings():
    """Answers of the hub."""
    small = {"rfilename": "config.json", "size": 139, "blobId": "ce013625030ba8dba906f756967f9e9ca394464a"}
    large = small | {"rfilename": "model.safetensors", "lfs": {"sha256": "ab" * 32, "size": 3208, "pointerSize": 134}}
    for files in ([], [small], [small, large], [small, large, large | {"rfilename": "aim.manifest.json"}]):
        yield json.dumps({"_id": "x", "sha": "1" * 40, "siblings": files}).encode()


def configs():
    """Configurations and labels."""
    yield from (path.read_bytes() for path in (TESTS / "bad").glob("config_*.json"))
    yield from (path.read_bytes() for path in (ROOT / "models/aim-tiny").glob("*.json"))
    yield json.dumps(TINY | {"quantization": {"group_size": 64, "bits": 4, "mode": "affine"}}).encode()
    yield json.dumps(TINY | {"probe_layers": 1, "img_size": [4, 6], "patch_size": [2, 3]}).encode()
    yield json.dumps(TINY | {"num_classes": 2, "id2label": {"0": "a", "1": "b"}}).encode()
    yield json.dumps(TINY | {"trunk": {"name": "aim-tiny", "sha256": "ab" * 32, "arch": "aim-1B"}}).encode()
    yield json.dumps({"embed_dim": 1536, "num_blocks": 24, "num_heads": 12}).encode()


def manifests():
    """Hashes of chunks."""
    hash = "ab" * 32
    for files in ({}, {"a.safetensors": (1, 1)}, {"a.safetensors": (0, 0), "b.bin": (8 << 20, 1), "c": (9 << 20, 2)}):
        listed = {name: {"size": size, "sha256": [hash] * chunks} for name, (size, chunks) in files.items()}
        yield json.dumps({"version": 1, "chunk_size": 8 << 20, "files": listed}).encode()


def indexes():
    """Which file holds which tensor."""
    names = [name for name, _ in layout(4, 10)]
    for ending in ("safetensors", "bin"):
        map = {name: f"model-0000{1 + i % 2}-of-00002.{ending}" for i, name in enumerate(names)}
        yield json.dumps({"metadata": {"total_size": 1}, "weight_map": map}).encode()


def files(*endings):
    """The files of the tests with such names."""
    for path in sorted(TESTS.rglob("*")):
        if path.is_file() and path.suffix[1:] in endings and "node_modules" not in path.parts:
            yield path


def contents(*endings):
    yield from (path.read_bytes() for path in files(*endings))


def cases():
    """Bytes that cases are made of."""
    numbers = random.Random(1)
    yield from (numbers.randbytes(size) for size in (8, 16, 64, 256) for _ in range(8))


def seeds():
    """Every target and its seeds."""
    tensors = [*contents("safetensors"), *heads(), mlx(4)]
    archives = [*contents("bin", "pth")]
    yield "checkpoint", cases()
    yield "config", configs()
    yield "head", heads()
    yield "index", indexes()
    yield "listing", listings()
    yield "manifest", manifests()
    yield "mlx", [bytes([first]) + mlx(bits) for bits, high in ((4, 0), (8, 128)) for first in range(high, high + 4)]
    yield "pickle", pickles()
    yield "record", records()
    yield "safetensors", tensors
    yield "server", cases()
    yield "stream", [b"\x3f" + bytes for bytes in tensors]
    yield "torch", [b"\x3f" + bytes for bytes in archives]
    for target, endings in ENDINGS.items():
        yield target, contents(*endings)


def main():
    corpus = Path(sys.argv[1])
    for target, inputs in seeds():
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(inputs):
            if len(data) <= MOST.get(target, MOST_OF_OTHERS):
                (folder / f"seed-{i:03}").write_bytes(data)


if __name__ == "__main__":
    main()
