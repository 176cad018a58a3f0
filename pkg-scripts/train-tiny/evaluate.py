"""Accuracy of an exported model on folders of pictures, with the exact preprocessing.

    python evaluate.py MODEL_DIR --hand-digits DIR --clothing DIR [--pictures FILE ...]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from data import DIGITS, GARMENTS, LABELS, evaluation_crop, labelled, normalise, to_unit
from weights import load


@torch.inference_mode()
def predict(model, crops, batch=64):
    """Logits of exact u8 crops [N,112,112,3]."""
    parts = [crops[i : i + batch] for i in range(0, len(crops), batch)]
    return torch.cat([model(normalise(to_unit(np.asarray(part)))) for part in parts])


def class_mean(right, labels):
    """Each class counts the same, however many pictures it has."""
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def accuracy(model, crops, labels):
    """(of all pictures, mean of the classes')"""
    labels = np.asarray(labels)
    right = predict(model, crops).argmax(1).numpy() == labels
    return float(right.mean()), class_mean(right, labels)


def report(name, model, items):
    logits = predict(model, np.stack([evaluation_crop(path) for path, _ in items]))
    labels = np.array([label for _, label in items])
    answers = logits.argmax(1).numpy()
    top5 = (logits.topk(5).indices.numpy() == labels[:, None]).any(1)
    right = answers == labels
    print(f"{name}: top-1 {right.mean():.4f} top-5 {top5.mean():.4f} of {len(labels)}, "
          f"mean of the classes {class_mean(right, labels):.4f}")
    for label in sorted(set(labels)):
        own = answers[labels == label]
        wrong = np.bincount(own[own != label], minlength=len(LABELS))
        most = [f"{LABELS[i]} {wrong[i]}" for i in np.argsort(-wrong)[:3] if wrong[i]]
        print(f"  {LABELS[label]:10} {(own == label).mean():.3f} of {len(own):3}  {', '.join(most)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--hand-digits", help="folder with test/CLASS/*.jpg")
    parser.add_argument("--clothing", help="folder with test/CLASS/*.jpg")
    parser.add_argument("--pictures", nargs="*", default=[], help="files or folders to classify")
    args = parser.parse_args()
    model = load(args.model)
    if args.hand_digits:
        report("hand digits", model, labelled(Path(args.hand_digits) / "test", DIGITS))
    if args.clothing:
        report("garments", model, labelled(Path(args.clothing) / "test", GARMENTS))
    for path in args.pictures:
        p = predict(model, evaluation_crop(path)[None])[0].softmax(0)
        best = p.topk(3)
        print(path, [(LABELS[i], round(float(v), 3)) for v, i in zip(*best)])


if __name__ == "__main__":
    main()
