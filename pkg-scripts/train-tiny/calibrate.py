"""Raises or lowers the logit of `neither` by the number that suits the validation pictures best.

AIM's classifier has no bias. But a direction of the pooled features is nearly constant over all
pictures; so much of it is added to the row of `neither` that its logit moves by that number.
"""

import numpy as np
import torch

from data import LABELS, NEITHER, normalise, to_unit

SHIFTS = np.arange(-10, 31) / 10


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


def calibrate(model, batches, validation, log, drawn=1536):
    """Changes the model in place. The best shift has the highest mean of the accuracies of the
    validation's parts (garments, hands, neither); the direction comes from training batches."""
    model.eval()
    pictures = torch.cat([normalise(batches.draw(96)["pictures"]) for _ in range(drawn // 96)])
    direction = constant_direction(pooled(model, pictures))
    row = model.head.linear.weight[LABELS.index(NEITHER)]

    parts = []
    for crops, labels in validation.values():
        features = pooled(model, normalise(to_unit(np.asarray(crops))))
        parts.append((features, torch.as_tensor(np.asarray(labels))))

    def scores(shift):
        out = []
        for features, labels in parts:
            logits = model.head.linear(features)
            logits[:, LABELS.index(NEITHER)] += shift * (features @ direction)
            out.append((logits.argmax(1) == labels).float().mean().item())
        return out

    with torch.no_grad():
        means = [np.mean(scores(shift)) for shift in SHIFTS]
        best = float(SHIFTS[int(np.argmax(means))])
        shown = {shift: [round(s, 3) for s in scores(shift)] for shift in sorted({0.0, best})}
        row += best * direction
    log(f"neither raised by {best:.1f}: validation {shown} ({', '.join(validation)})")
    return best
