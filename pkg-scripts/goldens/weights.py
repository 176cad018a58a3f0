"""Weights and inputs from a seed, the same numbers in Python and in Rust (tests/common/generator.rs).

FNV-1a-64 of "seed/name" starts a splitmix64 sequence; four of its outputs add up to a nearly normal
value.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return np.uint64(value)


def normal(seed, name, shape):
    """Nearly normal float64 values of mean 0 and deviation 1."""
    count = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        x = fnv1a(f"{seed}/{name}") + np.arange(1, 4 * count + 1, dtype=np.uint64) * GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = (x >> np.uint64(40)).reshape(count, 4).sum(axis=1).astype(np.float64)
    return ((u / 8388608.0 - 4.0) * 0.8660254037844386).reshape(shape)


def tensor(seed, name, shape):
    """A float32 tensor with the mean and deviation that suit its name."""
    if name.endswith("num_batches_tracked"):
        return np.array(12345, dtype=np.int64)
    z = normal(seed, name, shape)
    fan_in = int(np.prod(shape[1:]))
    if name.endswith("running_mean"):
        value = 0.5 * z
    elif name.endswith("running_var"):
        value = 0.5 + np.abs(z)
    elif name.endswith("cls_token") or name == "input":
        value = z
    elif name.endswith(".bias"):
        value = 0.25 * z
    elif len(shape) == 1:
        value = 1.0 + 0.25 * z
    elif name.endswith("attn.qkv.weight"):
        value = 1.5 / np.sqrt(fan_in) * z
    else:
        value = 1.0 / np.sqrt(fan_in) * z
    return value.astype(np.float32)
