"""Raises or lowers whole classes by what suits the validation pictures best: each garment a little,
then `neither` by one number.

AIM's classifier has no bias. But a direction of the pooled features is nearly constant over all
pictures; so much of it is added to the row of a class that its logit moves by that number.
"""

import numpy as np
import torch
import torch.nn.functional as F

from data import GARMENTS, LABELS, NEITHER, normalise, to_unit
from evaluate import class_mean

SHIFTS = np.arange(-10, 31) / 10
GARMENT_ROWS = [LABELS.index(name) for name in GARMENTS]


@torch.inference_mode()
def pooled(model, pictures, batch=64):
    """[N, D], what the classifier's matrix is multiplied with; pictures are normalised."""
    parts = [pictures[i : i + batch] for i in range(0, len(pictures), batch)]
    return torch.cat([model.head.pool(model.probed(model.features(part))) for part in parts])


def constant_direction(features, ridge=0.01):
    """The vector whose product with every row is closest to 1."""
    gram = features.T @ features
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, features.sum(0))


def garment_offsets(logits, labels, ridge=0.05):
    """[10], what to add to the garments' logits for the best likelihood of garments among garments.
    The classes weigh the root of their number; the ridge keeps what a few pictures say small."""
    own = logits[:, GARMENT_ROWS].clone()
    targets = torch.tensor([GARMENT_ROWS.index(int(label)) for label in labels])
    counts = torch.bincount(targets, minlength=len(GARMENTS)).clamp(min=1).float()
    offsets = torch.zeros(len(GARMENTS), requires_grad=True)
    optimizer = torch.optim.LBFGS([offsets], max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(own + offsets, targets, weight=counts**-0.5)
        value = value + ridge * offsets.pow(2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return offsets.detach()


def calibrate(model, batches, validation, log, drawn=1536):
    """Changes the model in place. The shift of `neither` has the highest mean of the accuracies of
    garments (all, and by class), hands and neither; the direction comes from training batches.
    Every validation picture counts as it is and mirrored."""
    model.eval()
    pictures = torch.cat([normalise(batches.draw(96)["pictures"]) for _ in range(drawn // 96)])
    direction = constant_direction(pooled(model, pictures))
    weight = model.head.linear.weight

    parts = {}
    for name, (crops, labels) in validation.items():
        x = normalise(to_unit(np.asarray(crops)))
        parts[name] = (pooled(model, torch.cat([x, x.flip(3)])), np.tile(np.asarray(labels), 2))

    def scores(shift):
        out = []
        for name, (features, labels) in parts.items():
            logits = features @ weight.T
            logits[:, LABELS.index(NEITHER)] += shift * (features @ direction)
            right = logits.argmax(1).numpy() == labels
            out.append(float(right.mean()))
            if name == "garments":
                out.append(class_mean(right, labels))
        return out

    with torch.no_grad():
        before = scores(0.0)
    features, labels = parts["garments"]
    offsets = garment_offsets(features @ weight.detach().T, labels)
    with torch.no_grad():
        weight[GARMENT_ROWS] += offsets[:, None] * direction
        means = [np.mean(scores(shift)) for shift in SHIFTS]
        best = float(SHIFTS[int(np.argmax(means))])
        after = scores(best)
        weight[LABELS.index(NEITHER)] += best * direction
    shown = lambda numbers: " ".join(f"{number:.3f}" for number in numbers)
    log("garments raised by " + " ".join(f"{n} {o:+.2f}" for n, o in zip(GARMENTS, offsets.tolist())))
    log(f"neither raised by {best:.1f}: validation (garments, by class, hands, neither) "
        f"{shown(before)} to {shown(after)}")
    return best
