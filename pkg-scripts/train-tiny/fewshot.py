"""How well frozen features teach classes anew, from a few pictures each.

    python fewshot.py MODEL_DIR [MODEL_DIR ...] --hand-digits DIR --clothing DIR [--shots 20]

The features (mean of the probed tokens) of some training pictures a class teach a logistic
regression; all test pictures judge it. EfficientNet-Lite0's pooled features, as ImageNet left them,
get the same head on the same pictures. `--hold-out` repeats the names that `train.py` kept from the
trunk: their own accuracy is shown too.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data import DIGITS, GARMENTS, LABELS, evaluation_crop, labelled, normalise, to_unit
from weights import load

TEACHER_SIZE = 224


def batched(crops, describe, batch=32):
    with torch.inference_mode():
        parts = [describe(normalise(to_unit(crops[i : i + batch]))) for i in range(0, len(crops), batch)]
    return torch.cat(parts).numpy()


def model_features(folder):
    model = load(folder)
    return lambda paths: batched(
        np.stack([evaluation_crop(path) for path in paths]),
        lambda x: model.probed(model.features(x)).mean(1),
    )


def efficientnet_features():
    from teacher import pretrained_trunk

    trunk = pretrained_trunk()
    return lambda paths: batched(
        np.stack([evaluation_crop(path, TEACHER_SIZE) for path in paths]),
        lambda x: trunk.extract_features(x).mean((2, 3)),
    )


def pick(labels, shots, rng):
    """The places of `shots` random pictures of each class."""
    own = [rng.permutation(np.flatnonzero(labels == label))[:shots] for label in np.unique(labels)]
    return np.concatenate(own)


def taught_accuracies(describe, paths, labels, test_features, test_labels, shots, draws):
    """[draws, classes]: the accuracy of each class, over random choices of the pictures to teach."""
    choices = [pick(labels, shots, np.random.default_rng(draw)) for draw in range(draws)]
    used = np.unique(np.concatenate(choices))
    features = np.zeros((len(labels), test_features.shape[1]), np.float32)
    features[used] = describe([paths[i] for i in used])
    rows = []
    for chosen in choices:
        head = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=np.logspace(-4, 0, 7), cv=4, max_iter=300),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head.fit(features[chosen], labels[chosen])
        right = head.predict(test_features) == test_labels
        rows.append([right[test_labels == label].mean() for label in np.unique(labels)])
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--hand-digits", type=Path, required=True)
    parser.add_argument("--clothing", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[20])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--hold-out", nargs="*", default=[], choices=LABELS[:-1], metavar="LABEL")
    args = parser.parse_args()
    torch.set_num_threads(2)
    describers = {folder: model_features(folder) for folder in args.models}
    describers["EfficientNet-Lite0"] = efficientnet_features()
    for what, root, names in (("garments", args.clothing, GARMENTS), ("hands", args.hand_digits, DIGITS)):
        items = {part: labelled(root / part, names) for part in ("train", "test")}
        labels = {part: np.array([label for _, label in own]) for part, own in items.items()}
        counts = np.bincount(labels["test"])[np.unique(labels["test"])]
        held = [i for i, name in enumerate(names) if name in args.hold_out]
        for name, describe in describers.items():
            test = describe([path for path, _ in items["test"]])
            paths = [path for path, _ in items["train"]]
            for shots in args.shots:
                rows = taught_accuracies(
                    describe, paths, labels["train"], test, labels["test"], shots, args.draws
                )
                top1 = rows @ counts / counts.sum()
                line = (f"{what}, {shots} pictures a class, {name}: top-1 {top1.mean():.3f} "
                        f"(deviation {top1.std():.3f}), mean of the classes {rows.mean():.3f}")
                if held:
                    line += f", held out {rows[:, held].mean():.3f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
