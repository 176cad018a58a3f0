#!/usr/bin/env python3
"""Hands our quantised matrices to MLX: what mx.dequantize makes of them must be what we make of them,
to the rounding of float16.

Needs `pip install "mlx[cpu]" numpy`, and the file that `cargo test --test quant mlx` writes.
"""

import pathlib
import re
import sys

import mlx.core as mx
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/tmp/quant_for_mlx.safetensors")
    tensors = mx.load(path)
    checked = 0
    for name in tensors:
        match = re.fullmatch(r"(b(4|8)\.g(\d+)\.\w+)\.weight", name)
        if not match:
            continue
        at, bits, group = match[1], int(match[2]), int(match[3])
        parts = [tensors[f"{at}.{part}"] for part in ("weight", "scales", "biases")]
        theirs = mx.dequantize(*parts, group_size=group, bits=bits, stream=mx.cpu)
        assert theirs.dtype == mx.float16
        theirs = np.array(theirs).astype(np.float32)
        ours = np.array(tensors[f"{at}.dequantized"])
        bias = np.repeat(np.array(parts[2]).astype(np.float32), group, axis=1)
        # MLX rounds the product and the sum.
        bound = (np.abs(ours - bias) + np.abs(ours)) / 2048 + 2.0**-24
        worst = np.max(np.abs(ours - theirs) / bound)
        print(f"{at}: {worst:.3f} of the rounding")
        if not worst <= 1:
            sys.exit(f"{at}: MLX reads something else")
        checked += 1
    if checked != 12:
        sys.exit(f"{checked} matrices, expected 12")


if __name__ == "__main__":
    main()
