#!/usr/bin/env python3
"""Times our own PyTorch implementation on a GPU as `aim-bench bench` times aim-web, and writes the same JSON.

    python3 torch_bench.py --models aim-600M,aim-1B --dtypes fp16,bf16 --batch 1,8,32 --seconds 2 [--until UNIX_TIME]

Weights are random and never leave the GPU. A time is from the normalised pictures on the host to the logits there. The peak is
that of a product of two matrices of 8192 x 8192 in the same dtype. `--device cpu` is for trying it out; `--until` leaves out what
begins later than that.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train-tiny"))
import model  # noqa: E402

# embed_dim, num_blocks, num_heads and the best probe layers, as src/config.rs has them.
FAMILY = {
    "aim-600M": (1536, 24, 12, range(14, 20)),
    "aim-1B": (2048, 24, 16, range(12, 18)),
    "aim-3B": (3072, 24, 24, range(12, 18)),
    "aim-7B": (4096, 32, 32, range(14, 20)),
    "tiny": (192, 12, 3, range(6, 12)),
}
SIZE, PATCH, CHANNELS, CLASSES = 224, 14, 3, 1000
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LEAST, WARM = 3, 3


class Preprocessor(model.Preprocessor):
    """Positions are made once, where the model is."""

    def __init__(self, dim):
        super().__init__(dim, CHANNELS, PATCH)
        side = SIZE // PATCH
        self.register_buffer("position", model.sincos_position(dim, side, side), persistent=False)

    def forward(self, pixels):
        tokens = self.patchifier.proj(pixels).flatten(2).transpose(1, 2)
        return self.patchifier.norm(tokens) + self.position


class Aim(model.Aim):
    """The blocks that the probe needs, with PyTorch's own random weights: those of training take minutes."""

    _init = staticmethod(lambda module: None)

    def __init__(self, name):
        dim, _, heads, layers = FAMILY[name]
        layers = list(layers)
        config = dict(
            embed_dim=dim, num_heads=heads, num_blocks=max(layers) + 1, num_channels=CHANNELS, patch_size=PATCH,
            num_classes=CLASSES, probe_layers=layers,
        )
        super().__init__(config)
        self.preprocessor = Preprocessor(dim)

    def forward(self, pixels):
        """The mean of the probed layers as a sum: as little as aim-web keeps."""
        x = self.preprocessor(pixels)
        layers = self.config["probe_layers"]
        probed = None
        for index, block in enumerate(self.trunk.blocks):
            x = block(x)
            if index in layers:
                probed = x if probed is None else probed + x
        return self.head(probed / len(layers))


def flops(name):
    """As src/cost.rs counts them."""
    dim, _, _, layers = FAMILY[name]
    tokens = (SIZE // PATCH) ** 2
    block = 12 * tokens * dim * dim + 2 * tokens * tokens * dim
    probe = 2 * tokens * dim * dim + 2 * tokens * dim + CLASSES * dim
    return 2.0 * (tokens * dim * CHANNELS * PATCH**2 + (max(layers) + 1) * block + probe)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def times_of(run, seconds):
    for _ in range(WARM):
        run()
    times = []
    start = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def peak(dtype, device):
    side = 8192 if device == "cuda" else 512
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def run():
        for _ in range(4):
            a @ b
        synchronize(device)

    return 4 * 2.0 * side**3 / min(times_of(run, 0.5))


def measure(name, dtype_name, batches, seconds, device, until):
    dtype = DTYPES[dtype_name]
    start = time.perf_counter()
    torch.set_default_dtype(dtype)
    with torch.device(device), torch.inference_mode():
        aim = Aim(name).eval()
    torch.set_default_dtype(torch.float32)
    aim = aim.to(dtype)
    synchronize(device)
    load = time.perf_counter() - start
    adapter = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    most = peak(dtype, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for batch in batches:
        if until and time.time() > until:
            return
        row = dict(
            engine=f"PyTorch {torch.__version__}", model=name, device="gpu" if device == "cuda" else "cpu", adapter=adapter,
            dtype=dtype_name, batch=batch, threads=None if device == "cuda" else torch.get_num_threads(),
        )
        pictures = torch.randn(batch, CHANNELS, SIZE, SIZE)
        if device == "cuda":
            pictures = pictures.pin_memory()

        def run():
            with torch.inference_mode():
                return aim(pictures.to(device, dtype)).float().cpu()

        try:
            if not torch.isfinite(run()).all():
                raise ArithmeticError("the logits are not finite")
            times = times_of(run, seconds)
        except (RuntimeError, ArithmeticError) as error:
            yield {**row, "error": dict(code="out_of_memory" if "memory" in str(error) else "unsupported", message=str(error)[:200])}
            return
        each = statistics.median(times) / batch
        yield {
            **row,
            "ms_per_image": each * 1e3,
            "images_per_second": 1 / each,
            "tflops": flops(name) / each / 1e12,
            "peak_share": flops(name) / each / most,
            "load_s": load,
            "peak_host_bytes": None,
            "peak_device_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None,
            "ms_lowest": min(times) / batch * 1e3,
            "ms_highest": max(times) / batch * 1e3,
            "runs": len(times),
            "peak_tflops": most / 1e12,
        }


def table(rows):
    """The columns of `aim-bench bench --markdown` that there are figures for."""
    lines = ["| model | engine | dtype | batch | ms an image | images/s | TFLOP/s | of peak | GPU, MB |", "|---" * 9 + "|"]
    for row in rows:
        head = f"| {row['model']} | {row['engine']} | {row['dtype']} | {row['batch']} |"
        if "error" in row:
            told = row["error"]["message"].replace("|", "/").replace("\n", " ")
            lines.append(f"{head} {told} | | | | |")
            continue
        memory = row["peak_device_bytes"]
        lines.append(
            f"{head} {row['ms_per_image']:.3g} | {row['images_per_second']:.4g} | {row['tflops']:.3g} | {row['peak_share']:.0%} |"
            f" {memory / 1e6 if memory else 0:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="aim-600M,aim-1B,aim-3B,aim-7B")
    parser.add_argument("--dtypes", default="fp16,bf16")
    parser.add_argument("--batch", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--until", type=float)
    parser.add_argument("--markdown", type=Path, help="also write a table to this file")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here")
    rows = []
    for name in args.models.split(","):
        for dtype in args.dtypes.split(","):
            if args.until and time.time() > args.until:
                print("the time is up: the rest is left out", file=sys.stderr)
                break
            try:
                for row in measure(name, dtype, [int(batch) for batch in args.batch.split(",")], args.seconds, args.device, args.until):
                    rows.append(row)
                    speed = row.get("images_per_second")
                    told = f"{speed:.1f} images/s" if speed else row["error"]["message"]
                    print(f"{name} {dtype} batch {row['batch']}: {told}", file=sys.stderr, flush=True)
            except torch.OutOfMemoryError:
                print(f"{name} {dtype}: it does not fit", file=sys.stderr)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    if args.markdown:
        args.markdown.write_text(table(rows))
    json.dump(rows, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
