"""What all contenders get: the model, its weights, the pictures."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "pkg-scripts" / "train-tiny"))
import model  # noqa: E402

SIZES = {
    "tiny": dict(embed_dim=192, num_blocks=12, num_heads=3, probe_layers=[6, 7, 8, 9, 10, 11]),
    "small": dict(embed_dim=384, num_blocks=12, num_heads=6, probe_layers=[6, 7, 8, 9, 10, 11]),
    # The 20 of its 24 blocks that the probe of `best` needs.
    "600M": dict(embed_dim=1536, num_blocks=20, num_heads=12, probe_layers=[14, 15, 16, 17, 18, 19]),
}
COMMON = dict(img_size=224, patch_size=14, num_channels=3, num_classes=1000)
# The reference resizes the shorter side to this and crops the centre.
SIDE = 256
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


class Preprocessor(model.Preprocessor):
    """The patch embedding as the convolution that it is in the paper, which exporters know, and constant positions."""

    def __init__(self, config):
        super().__init__(config["embed_dim"], config["num_channels"], config["patch_size"])
        side = config["img_size"] // config["patch_size"]
        self.register_buffer("position", model.sincos_position(self.dim, side, side), persistent=False)

    def forward(self, pixels):
        tokens = self.patchifier.proj(pixels).flatten(2).transpose(1, 2)
        return self.patchifier.norm(tokens) + self.position


class Aim(model.Aim):
    """The model, for pictures of one size."""

    def __init__(self, config):
        super().__init__(config)
        self.preprocessor = Preprocessor(config)


def config(size):
    return {**COMMON, **SIZES[size]}


def build(size):
    """The model with random weights, the same each time."""
    torch.manual_seed(0)
    aim = Aim(config(size)).eval()
    # Statistics of pictures, so that the logits depend on the picture as a trained model's do.
    few = normalised(pictures(8, seed=1))
    with torch.inference_mode():
        x = torch.cat([aim.probed(aim.features(picture[None])) for picture in few])
        aim.head.bn.running_mean.copy_(x.mean((0, 1)))
        aim.head.bn.running_var.copy_(x.var((0, 1)))
    return aim


def pictures(count, seed):
    """[count, SIDE, SIDE, 3] bytes: smooth colours with some detail, as of photographs."""
    generator = torch.Generator().manual_seed(seed)
    sum_ = torch.zeros(count, 3, SIDE, SIDE)
    for cells, weight in ((2, 1.0), (4, 0.8), (8, 0.6), (16, 0.4), (64, 0.25), (SIDE, 0.1)):
        noise = torch.randn(count, 3, cells, cells, generator=generator)
        sum_ += weight * F.interpolate(noise, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    return (torch.sigmoid(sum_) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def normalised(bytes_):
    """[count, 3, 224, 224]: the centre, as a model gets it. Nothing is resized at this size."""
    size = COMMON["img_size"]
    edge = (SIDE - size) // 2
    centre = bytes_[:, edge : edge + size, edge : edge + size].astype(np.float32) / 255
    return torch.from_numpy(((centre - MEAN) / STD).transpose(0, 3, 1, 2).copy())
