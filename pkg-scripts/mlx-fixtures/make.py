#!/usr/bin/env python3
"""Writes tests/quant/mlx.safetensors: matrices that MLX quantised, and what it reads back.

Needs `pip install "mlx[cpu]" numpy`. The matrices are small and seeded, and the file is committed,
so that the Rust tests need neither Python nor MLX.

Tensors: `in.NAME` is the matrix handed to mx.quantize; `KIND.bBITS.gGROUP.NAME.{weight,scales,
biases}` is the answer, `KIND.bBITS.gGROUP.NAME.dequantized` what mx.dequantize makes of it. KIND is
the type of matrix, scales, biases and result: f16, bf16 or f32.
"""

import pathlib
import sys

import mlx.core as mx
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]


def matrices():
    rng = np.random.default_rng(20)
    gaussian = rng.standard_normal((8, 128)).astype(np.float32)
    # Groups of one value, of one sign, of a wide range, of a range that float16 barely holds.
    odd = rng.standard_normal((8, 128)).astype(np.float32)
    odd[0] = 0
    odd[1] = 0.1
    odd[2] = np.abs(odd[2])
    odd[3] = -np.abs(odd[3])
    odd[4, ::17] *= 40
    odd[5] *= 1e-3
    odd[6] *= 1e-6
    odd[7] *= 5000
    return {"gaussian": gaussian, "odd": odd}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/quant/mlx.safetensors"
    tensors = {}
    kinds = {"f16": mx.float16, "bf16": mx.bfloat16, "f32": mx.float32}
    for name, matrix in matrices().items():
        tensors[f"in.{name}"] = mx.array(matrix)
        for kind, dtype in kinds.items():
            # Every scheme in f16, the type of our shards; one of each size in the others.
            schemes = [(b, g) for b in (4, 8) for g in (32, 64, 128)]
            if kind != "f16":
                schemes = [(4, 64), (8, 32)]
            for bits, group in schemes:
                w = mx.array(matrix).astype(dtype)
                weight, scales, biases = mx.quantize(w, group_size=group, bits=bits, stream=mx.cpu)
                back = mx.dequantize(weight, scales, biases, group_size=group, bits=bits, stream=mx.cpu)
                at = f"{kind}.b{bits}.g{group}.{name}"
                tensors |= {
                    f"{at}.weight": weight,
                    f"{at}.scales": scales,
                    f"{at}.biases": biases,
                    f"{at}.dequantized": back,
                }
    out.parent.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(out), tensors, metadata={"mlx": mx.__version__})
    print(f"{out}: {out.stat().st_size} bytes, MLX {mx.__version__}")


if __name__ == "__main__":
    main()
