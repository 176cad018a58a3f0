#!/usr/bin/env python3
"""Writes the parity cases of tests/goldens that Apple's reference did not run itself.

The graph is the one of ../train-tiny/model.py, in float64. Before it writes anything it is held
against the two cases that came from the reference: if those disagree, so would these.

    pip install torch numpy safetensors
    python pkg-scripts/goldens/make.py tests/goldens
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import weights

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train-tiny"))
import model  # noqa: E402

SAMPLES = 512
CASES = {
    # Head dim 128, as in the released models.
    "b_heads_of_128": dict(seed="b", embed_dim=256, num_blocks=2, num_heads=2, probe=[0, 1], size=[1, 3, 224, 224]),
    # A grid that is not square, and one that leaves a remainder of pixels.
    "d_wide": dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[1, 2], size=[1, 3, 140, 196]),
    "e_remainder": dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[1, 2], size=[2, 3, 203, 231]),
    # A layer listed twice counts twice.
    "g_probed_twice": dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[3, 0, 3], size=[1, 3, 112, 112]),
    # The prefix-causal mask of pre-training.
    "h_prefix": dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[3], size=[1, 3, 98, 98], prefix=11),
}
REFERENCE = {
    "a_tiny_best": (dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[1, 2], size=[1, 3, 224, 224]), "a.in"),
    "c_batch3": (dict(seed="a", embed_dim=128, num_blocks=4, num_heads=2, probe=[1, 2], size=[3, 3, 224, 224]), "c.in"),
}


def run(case, input_seed):
    """Logits and the features of every block, float64."""
    config = dict(
        embed_dim=case["embed_dim"], num_blocks=case["num_blocks"], num_heads=case["num_heads"],
        img_size=224, patch_size=14, num_channels=3, num_classes=1000, probe_layers=case["probe"],
    )
    aim = model.Aim(config).double().eval()
    state = {
        name: torch.from_numpy(np.asarray(weights.tensor(case["seed"], name, tuple(value.shape))))
        for name, value in aim.state_dict().items()
    }
    aim.load_state_dict(state)
    images = torch.from_numpy(weights.tensor(input_seed, "input", case["size"])).double()
    with torch.no_grad():
        tokens = aim.preprocessor(images)
        mask = None
        if "prefix" in case:
            mask = model.prefix_causal_mask(torch.tensor([case["prefix"]]), tokens.shape[1])
        features = aim.trunk(tokens, mask)
        probed = torch.stack([features[i] for i in case["probe"]]).mean(0)
        return aim.head(probed).numpy(), [f.numpy() for f in features]


def error(ours, reference, largest):
    return np.abs(ours - reference).max() / largest


def check(directory):
    for name, (case, input_seed) in REFERENCE.items():
        expected = load_file(directory / f"{name}.safetensors")
        logits, features = run(case, input_seed)
        errors = {"logits": error(logits, expected["logits_f64"], np.abs(expected["logits_f64"]).max())}
        for i, feature in enumerate(features):
            key = f"features.{i}"
            if key in expected:
                errors[key] = error(feature, expected[key], np.abs(expected[key]).max())
            else:
                picked = feature.reshape(-1)[expected[f"{key}.idx"]]
                errors[key] = error(picked, expected[f"{key}.val"], expected[f"{key}.stats"][2])
        print(name, {key: f"{value:.1e}" for key, value in errors.items()})
        if max(errors.values()) > 2e-6:
            sys.exit(f"{name}: this graph is not the reference's; nothing was written")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="tests/goldens")
    directory = parser.parse_args().directory
    check(directory)
    rng = np.random.default_rng(0)
    for name, case in CASES.items():
        logits, features = run(case, f"{name}.in")
        # Under the mask there is no probe: only the features are the reference's.
        tensors = {} if "prefix" in case else {"logits": logits.astype(np.float32)}
        for i, feature in enumerate(features):
            indices = np.sort(rng.choice(feature.size, SAMPLES, replace=False)).astype(np.int32)
            flat = feature.reshape(-1)
            tensors[f"features.{i}.idx"] = indices
            tensors[f"features.{i}.val"] = flat[indices].astype(np.float32)
            tensors[f"features.{i}.stats"] = np.array(
                [flat.mean(), flat.std(ddof=1), np.abs(flat).max(), np.linalg.norm(flat)]
            )
        save_file(tensors, directory / f"{name}.safetensors", metadata={"case": json.dumps(case)})
        print("wrote", name, {k: v.shape for k, v in tensors.items() if k == "logits"})


if __name__ == "__main__":
    main()
