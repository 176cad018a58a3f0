"""The AIM v1 graph at any size, with the tensor names of the released checkpoints.

`Aim` is what ships. `PixelHead` is the throw-away head of the pre-training.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

LAYER_NORM_EPS = 1e-6
BATCH_NORM_EPS = 1e-6

TINY = dict(
    embed_dim=192,
    img_size=112,
    num_blocks=6,
    num_channels=3,
    num_heads=3,
    patch_size=14,
    probe_layers=[3, 4, 5],
)


def sincos_position(dim, rows, columns):
    """[rows * columns, dim]: the first half encodes the column, the second the row."""
    half = dim // 2
    omega = 10000.0 ** (-torch.arange(half // 2, dtype=torch.float64) / (half / 2))

    def encode(position):
        angle = position.reshape(-1, 1) * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    return torch.cat([encode(x), encode(y)], dim=1).float()


def prefix_causal_mask(prefix, tokens):
    """[B, 1, N, N] booleans: token i sees j <= i and every j of its picture's prefix."""
    index = torch.arange(tokens)
    causal = index[None, :] <= index[:, None]
    in_prefix = index[None, None, :] < prefix[:, None, None]
    return (causal[None] | in_prefix)[:, None]


class Patchifier(nn.Module):
    def __init__(self, dim, channels, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


class Preprocessor(nn.Module):
    def __init__(self, dim, channels, patch):
        super().__init__()
        self.patchifier = Patchifier(dim, channels, patch)
        self.dim, self.patch = dim, patch

    def forward(self, pixels):
        p = self.patch
        batch, channels, height, width = pixels.shape
        rows, columns = height // p, width // p
        # The stride-p convolution as one matrix product: faster on a CPU, the same numbers.
        patches = (
            pixels[:, :, : rows * p, : columns * p]
            .reshape(batch, channels, rows, p, columns, p)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(batch, rows * columns, channels * p * p)
        )
        proj = self.patchifier.proj
        tokens = F.linear(patches, proj.weight.flatten(1), proj.bias)
        return self.patchifier.norm(tokens) + sincos_position(self.dim, rows, columns)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x, mask=None):
        batch, tokens, dim = x.shape
        q, k, v = (
            self.qkv(x)
            .reshape(batch, tokens, 3, self.heads, dim // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim, bias=False)
        self.fc2 = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads, drop_path):
        super().__init__()
        self.norm_1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm_2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim)
        self.drop_path = drop_path

    def residual(self, x, update):
        """Stochastic depth: a picture skips the branch now and then, in training only."""
        if not self.training or self.drop_path == 0:
            return x + update
        keep = 1 - self.drop_path
        gate = torch.bernoulli(torch.full((len(x), 1, 1), keep)) / keep
        return x + update * gate

    def forward(self, x, mask=None):
        x = self.residual(x, self.attn(self.norm_1(x), mask))
        return self.residual(x, self.mlp(self.norm_2(x)))


class Trunk(nn.Module):
    def __init__(self, dim, heads, blocks, drop_path):
        super().__init__()
        rates = [drop_path * i / max(1, blocks - 1) for i in range(blocks)]
        self.blocks = nn.ModuleList(Block(dim, heads, rate) for rate in rates)
        self.post_trunk_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, x, mask=None):
        """The output of every block, before the final norm."""
        features = []
        for block in self.blocks:
            x = block(x, mask)
            features.append(x)
        return features


class AttentionPoolingHead(nn.Module):
    def __init__(self, dim, heads, classes):
        super().__init__()
        self.heads = heads
        self.bn = nn.BatchNorm1d(dim, affine=False, eps=BATCH_NORM_EPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.linear = nn.Linear(dim, classes, bias=False)

    def pool(self, x):
        batch, tokens, dim = x.shape
        x = self.bn(x.reshape(-1, dim)).reshape(batch, tokens, dim)

        def split(t):
            return t.reshape(len(t), -1, self.heads, dim // self.heads).transpose(1, 2)

        q = split(self.cls_token.expand(batch, -1, -1))
        pooled = F.scaled_dot_product_attention(q, split(self.k(x)), split(self.v(x)))
        return pooled.transpose(1, 2).reshape(batch, dim)

    def forward(self, x):
        return self.linear(self.pool(x))


class Aim(nn.Module):
    def __init__(self, config, drop_path=0.0):
        super().__init__()
        self.config = dict(config)
        dim, heads = config["embed_dim"], config["num_heads"]
        self.preprocessor = Preprocessor(dim, config["num_channels"], config["patch_size"])
        self.trunk = Trunk(dim, heads, config["num_blocks"], drop_path)
        self.head = AttentionPoolingHead(dim, heads, config["num_classes"])
        self.apply(self._init)
        nn.init.normal_(self.head.cls_token, std=1.0)
        # The depth-scaled start of GPT-2 for the two projections into the residual stream.
        for block in self.trunk.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.data /= math.sqrt(2 * config["num_blocks"])

    @staticmethod
    def _init(module):
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)

    def tokens(self, pixels, keep=None):
        """Patch tokens; `keep` [B, K] picks a part of each picture's (patch dropout)."""
        x = self.preprocessor(pixels)
        if keep is None:
            return x
        return x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))

    def features(self, pixels, keep=None):
        return self.trunk(self.tokens(pixels, keep))

    def probed(self, features):
        return torch.stack([features[i] for i in self.config["probe_layers"]]).mean(0)

    def forward(self, pixels):
        return self.head(self.probed(self.features(pixels)))


class PixelHead(nn.Module):
    """Predicts the next patch from each token."""

    def __init__(self, dim, pixels, hidden=512):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, pixels)
        )

    def forward(self, x):
        return self.layers(x)


def random_keep(batch, tokens, kept):
    """[B, kept] token numbers, a random part of each picture."""
    return torch.rand(batch, tokens).argsort(1)[:, :kept]
