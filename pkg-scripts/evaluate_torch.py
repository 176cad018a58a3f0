#!/usr/bin/env python3
"""The evaluation of AIM in PyTorch: the reference for the numbers and the speed of `aim-bench eval`.

    pip install torch torchvision pillow safetensors numpy
    python pkg-scripts/evaluate_torch.py --model models/aim-tiny --data-path ROOT [--results-file OUT.jsonl]
    python pkg-scripts/evaluate_torch.py --compare OURS.jsonl THEIRS.jsonl
    python pkg-scripts/evaluate_torch.py --decode-only --data-path ROOT --workers 2
    python pkg-scripts/evaluate_torch.py --model MODEL --reference OUT.safetensors

It reads what aim-bench reads: a folder with config.json and model.safetensors, pytorch_model.bin or shards (quantised
ones are widened to f32), or Apple's two files by --backbone, --head and --config. Pictures are read and cropped by Pillow and
torchvision as the reference does, `ROOT/val/CLASS/*` or `ROOT/CLASS/*` by torchvision's ImageFolder; classes are found by
the model's labels, else taken in order. The graph is the one of train-tiny/model.py, which agrees with Apple's outputs
(goldens/make.py checks that).

--compare holds two files of results against each other: the likeliest class of every picture has to be the same where
the margin of its logits in THEIRS, which this script wrote, is over --margin.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parent / "train-tiny"))
import model as aim_model  # noqa: E402

CONFIG_KEYS = ("embed_dim", "num_blocks", "num_heads", "num_channels", "num_classes", "patch_size")
DEFAULTS = {"num_channels": 3, "num_classes": 1000, "patch_size": 14, "img_size": 224, "probe_layers": 6}


def read_tensors(paths):
    from safetensors.torch import load_file

    tensors = {}
    for path in paths:
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
        else:
            tensors |= torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def widen(tensors, config):
    """Quantised matrices (MLX's layout) to f32: w = scale * q + bias, low bits first."""
    quantization = config.get("quantization")
    if not quantization:
        return tensors
    bits, group = quantization["bits"], quantization["group_size"]
    wide = {}
    for name, value in tensors.items():
        if name.endswith((".scales", ".biases")):
            continue
        scales = tensors.get(name.removesuffix(".weight") + ".scales")
        if scales is None:
            wide[name] = value
            continue
        words = value.view(torch.int32).to(torch.int64) & 0xFFFFFFFF
        shifts = torch.arange(0, 32, bits)
        codes = (words[..., None] >> shifts) & ((1 << bits) - 1)
        codes = codes.reshape(value.shape[0], -1, group).float()
        biases = tensors[name.removesuffix(".weight") + ".biases"]
        wide[name] = (codes * scales.float()[..., None] + biases.float()[..., None]).reshape(value.shape[0], -1)
    return wide


def load(args):
    """The model in f32, its size of pictures and its labels."""
    labels = None
    if args.model:
        folder = Path(args.model)
        config = json.loads((folder / "config.json").read_text())
        if (folder / "labels.json").exists():
            labels = json.loads((folder / "labels.json").read_text())
        elif "id2label" in config:
            labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
        index = folder / "model.safetensors.index.json"
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            paths = [folder / name for name in names]
        else:
            there = [folder / n for n in ("model.safetensors", "pytorch_model.bin", "model.pth")]
            paths = [path for path in there if path.exists()][:1]
    else:
        config = json.loads(Path(args.config).read_text())
        paths = [Path(args.backbone), Path(args.head)]
    config = DEFAULTS | config
    square = lambda side: side[0] if isinstance(side, list) else side
    config["patch_size"], config["img_size"] = square(config["patch_size"]), square(config["img_size"])
    layers = config["probe_layers"]
    if isinstance(layers, int):
        layers = list(range(config["num_blocks"] - layers, config["num_blocks"]))
    if args.probe_layers:
        layers = [int(layer) for layer in args.probe_layers.split(",")]
    config["probe_layers"] = layers
    wanted = {key: config[key] for key in (*CONFIG_KEYS, "img_size", "probe_layers")}
    aim = aim_model.Aim(wanted).eval()
    tensors = widen(read_tensors(paths), config)
    tensors = {name: value.float() for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    missing = aim.load_state_dict(tensors, strict=False)
    lacks = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if lacks or missing.unexpected_keys:
        sys.exit(f"the checkpoint lacks {lacks[:3]}, and has {missing.unexpected_keys[:3]} too many")
    return aim, config["img_size"], labels


def folder(args, size):
    root = Path(args.data_path)
    root = root / "val" if (root / "val").is_dir() else root
    resized = -(-size * 8 // 7)
    transform = transforms.Compose([
        transforms.Resize(resized, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])
    return datasets.ImageFolder(root, transform)


def loader(args, data):
    return DataLoader(data, batch_size=args.batch_size, num_workers=args.workers, shuffle=False)


def decode_only(args):
    """How many pictures a second Pillow and torchvision make ready."""
    data = folder(args, args.img_size)
    for round_ in range(args.rounds):
        start, count = time.perf_counter(), 0
        for images, _ in loader(args, data):
            count += len(images)
        seconds = time.perf_counter() - start
        print(json.dumps({"round": round_, "pictures": count, "seconds": round(seconds, 3), "per_second": round(count / seconds, 1)}))


def evaluate(args):
    aim, size, labels = load(args)
    data = folder(args, size)
    names = labels or [str(i) for i in range(1000)]
    if all(name in names for name in data.classes):
        index = [names.index(name) for name in data.classes]
    elif len(data.classes) == len(names):
        index = list(range(len(names)))
    else:
        sys.exit("the classes are neither the model's labels nor as many")
    index = torch.tensor(index)
    out = open(args.results_file, "w") if args.results_file else None
    top_1 = top_5 = count = 0
    loss = 0.0
    start = time.perf_counter()
    with torch.inference_mode():
        for images, classes in loader(args, data):
            logits = aim(images)
            logits = logits[0] if isinstance(logits, tuple) else logits
            wanted = index[classes]
            own = logits.gather(1, wanted[:, None])
            above = (logits > own).sum(1)
            top_1 += int((above < 1).sum())
            top_5 += int((above < 5).sum())
            loss += float(torch.nn.functional.cross_entropy(logits.double(), wanted, reduction="sum"))
            if out:
                best = logits.topk(min(5, logits.shape[1]), dim=1)
                for i in range(len(images)):
                    path, class_ = data.samples[count + i]
                    values = best.values[i].tolist()
                    out.write(json.dumps({
                        "path": path,
                        "label": data.classes[class_],
                        "top_5": [{"label": names[j], "index": j} for j in best.indices[i].tolist()],
                        "margin": values[0] - values[1] if len(values) > 1 else None,
                    }) + "\n")
            count += len(images)
    seconds = time.perf_counter() - start
    print(json.dumps({
        "pictures": count, "top_1": top_1, "top_5": top_5, "loss": loss,
        "mean_loss": loss / max(1, count), "seconds": round(seconds, 2), "per_second": round(count / seconds, 1),
    }, indent=2))


def reference(args):
    """What `aim-bench parity --reference` compares with: logits and the output of every block, for a random picture."""
    from safetensors.torch import save_file

    aim, size, _ = load(args)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = aim.features(images)
        tensors = {"input": images, "logits": aim.head(aim.probed(features))}
        # Samples of the features keep the file small: the same places of each, spread evenly.
        for i, feature in enumerate(features):
            flat = feature.reshape(-1)
            places = torch.linspace(0, len(flat) - 1, 4096, dtype=torch.float64).to(torch.int32)
            tensors[f"features.{i}.idx"] = places
            tensors[f"features.{i}.val"] = flat[places.long()].clone()
            tensors[f"features.{i}.stats"] = torch.stack([flat.mean(), flat.std(), flat.abs().max()])
    save_file(tensors, args.reference)


def compare(args):
    ours, theirs = ([json.loads(line) for line in open(path)] for path in args.compare)
    if [line["path"] for line in ours] != [line["path"] for line in theirs]:
        sys.exit("the files are of other pictures, or in another order")
    differ = [
        (t["path"], o["top_5"][0]["label"], t["top_5"][0]["label"], t["margin"])
        for o, t in zip(ours, theirs)
        if o["top_5"][0]["index"] != t["top_5"][0]["index"]
    ]
    wrong = [d for d in differ if d[3] > args.margin]
    for path, own, other, margin in differ:
        print(f"{path}: {own}, in PyTorch {other}; margin {margin:.2e}")
    print(f"{len(ours)} pictures, {len(differ)} differ, {len(wrong)} of them by a margin over {args.margin}")
    sys.exit(bool(wrong))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--backbone")
    parser.add_argument("--head")
    parser.add_argument("--config")
    parser.add_argument("--probe-layers")
    parser.add_argument("--data-path")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results-file")
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compare", nargs=2, metavar=("OURS", "THEIRS"))
    parser.add_argument("--reference", metavar="FILE", help="write what aim-bench parity compares with")
    parser.add_argument("--margin", type=float, default=1e-4)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.compare:
        compare(args)
    elif args.reference:
        reference(args)
    elif args.decode_only:
        decode_only(args)
    else:
        evaluate(args)


if __name__ == "__main__":
    main()
