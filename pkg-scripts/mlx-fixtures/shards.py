#!/usr/bin/env python3
"""Runs a model from our shards in MLX, as they are, and compares with what aim-bench makes of them.

    pip install "mlx[cpu]" numpy
    aim-bench convert --model MODEL --dtype q4 --output SHARDS      # a model in floats
    aim-bench preprocess PICTURE --model SHARDS --output in.safetensors
    aim-bench run --model SHARDS --device cpu --input in.safetensors --output out.safetensors
    python pkg-scripts/mlx-fixtures/shards.py SHARDS in.safetensors out.safetensors

The matrices go into mx.quantized_matmul with the codes, scales and biases of the file, widened to
float32 only where they are floats. The graph is that of ../train-tiny/model.py.
"""

import json
import pathlib
import sys

import mlx.core as mx
import numpy as np

EPS = 1e-6
TOLERANCE = 1e-4


class Weights:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        self.tensors = {}
        for shard in sorted(set(index.values())):
            self.tensors |= mx.load(str(folder / shard))
        if sorted(self.tensors) != sorted(index):
            sys.exit("the index names other tensors than the shards hold")
        self.quantized = 0

    def __getitem__(self, name):
        return self.tensors[name].astype(mx.float32)

    def linear(self, name, x):
        """x W^T, by MLX's own product if the matrix is quantised."""
        weight = self.tensors[f"{name}.weight"]
        if weight.dtype != mx.uint32:
            return x @ weight.astype(mx.float32).T
        self.quantized += 1
        quantization = self.config["quantization"]
        return mx.quantized_matmul(
            x,
            weight,
            scales=self[f"{name}.scales"],
            biases=self[f"{name}.biases"],
            transpose=True,
            group_size=quantization["group_size"],
            bits=quantization["bits"],
        )

    def layer_norm(self, name, x):
        return mx.fast.layer_norm(x, self[f"{name}.weight"], self[f"{name}.bias"], EPS)


def sincos_position(dim, rows, columns):
    half = dim // 2
    omega = 10000.0 ** (-np.arange(half // 2) / (half / 2))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")

    def encode(position):
        angle = position.reshape(-1, 1) * omega
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    return mx.array(np.concatenate([encode(x), encode(y)], axis=1).astype(np.float32))


def attention(q, k, v, heads):
    batch, _, dim = k.shape

    def split(t):
        return t.reshape(batch, -1, heads, dim // heads).transpose(0, 2, 1, 3)

    scale = (dim // heads) ** -0.5
    y = mx.fast.scaled_dot_product_attention(split(q), split(k), split(v), scale=scale)
    return y.transpose(0, 2, 1, 3).reshape(batch, -1, dim)


def gelu(x):
    return x * (1 + mx.erf(x / 2**0.5)) / 2


def run(weights, pixels):
    config = weights.config
    dim, heads, patch = config["embed_dim"], config["num_heads"], config["patch_size"]
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    patches = pixels[:, :, : rows * patch, : columns * patch]
    patches = patches.reshape(batch, channels, rows, patch, columns, patch)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)
    at = "preprocessor.patchifier"
    x = patches @ weights[f"{at}.proj.weight"].reshape(dim, -1).T + weights[f"{at}.proj.bias"]
    x = weights.layer_norm(f"{at}.norm", x) + sincos_position(dim, rows, columns)

    probed = []
    layers = config["probe_layers"]
    for i in range(max(layers) + 1):
        at = f"trunk.blocks.{i}"
        qkv = weights.linear(f"{at}.attn.qkv", weights.layer_norm(f"{at}.norm_1", x))
        x = x + weights.linear(f"{at}.attn.proj", attention(*mx.split(qkv, 3, axis=-1), heads))
        y = gelu(weights.linear(f"{at}.mlp.fc1", weights.layer_norm(f"{at}.norm_2", x)))
        x = x + weights.linear(f"{at}.mlp.fc2", y)
        probed += [x] * layers.count(i)
    x = sum(probed) / len(probed)

    x = (x - weights["head.bn.running_mean"]) / mx.sqrt(weights["head.bn.running_var"] + EPS)
    q = mx.broadcast_to(weights["head.cls_token"], (batch, 1, dim))
    k, v = weights.linear("head.k", x), weights.linear("head.v", x)
    return weights.linear("head.linear", attention(q, k, v, heads)[:, 0])


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    mx.set_default_device(mx.cpu)
    weights = Weights(pathlib.Path(sys.argv[1]))
    theirs = np.array(run(weights, mx.load(sys.argv[2])["input"]))
    ours = np.array(mx.load(sys.argv[3])["logits"])
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{weights.quantized} quantised products, largest relative difference of the logits {error:.1e}")
    if weights.quantized == 0 or not error <= TOLERANCE:
        sys.exit("MLX makes something else of these shards")


if __name__ == "__main__":
    main()
