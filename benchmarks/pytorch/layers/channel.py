# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Channel mixers: MLP, SwiGLU, mixture of expert MLPs."""

import torch
import torch.nn.functional as F
from torch import nn


def gelu(x):
    return F.gelu(x, approximate="tanh")


def routing_weights(scores, active):
    """Softmax over all experts of the scores, of which all but the `active` largest are set to 0, as in the reference:
    an expert that is not chosen keeps the weight of the score 0."""
    threshold = scores.detach().topk(active, -1).values[..., -1:]
    return scores.masked_fill(scores < threshold, 0).softmax(-1)


class MLP(nn.Module):
    def __init__(self, dim, dim_inner=None, bias=False):
        super().__init__()
        inner = dim_inner or 4 * dim
        self.fc, self.proj = nn.Linear(dim, inner, bias=bias), nn.Linear(inner, dim, bias=bias)

    def forward(self, x):
        return self.proj(gelu(self.fc(x)))


class SwiGLU(nn.Module):
    """Shazeer 2020; the inner width is 8/3 of the width, rounded up."""

    def __init__(self, dim, bias=False, multiple_of=16):
        super().__init__()
        inner = -(-(8 * dim // 3) // multiple_of) * multiple_of
        self.w1, self.w2 = nn.Linear(dim, inner, bias=bias), nn.Linear(dim, inner, bias=bias)
        self.w3 = nn.Linear(inner, dim, bias=bias)

    def forward(self, x):
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class MoEMLP(nn.Module):
    """The reference's mixture: every expert runs, weighted by the router; `gates` is never read."""

    def __init__(self, dim, dim_inner=None, num_experts=8, active_experts=2, bias=False):
        super().__init__()
        inner = dim_inner or dim
        self.num_experts, self.active_experts = num_experts, active_experts
        self.gates = nn.Parameter(torch.randn(num_experts, inner))
        self.up1 = nn.Linear(dim, inner * num_experts, bias=bias)
        self.up2 = nn.Linear(dim, inner * num_experts, bias=bias)
        self.down1 = nn.Linear(inner * num_experts, dim * num_experts, bias=bias)
        self.router = nn.Linear(dim, num_experts)

    def forward(self, x):
        outputs = self.down1(self.up1(x) * gelu(self.up2(x))).unflatten(-1, (-1, self.num_experts))
        weights = routing_weights(self.router(x), self.active_experts)
        return (outputs @ weights.to(outputs.dtype).unsqueeze(-1)).squeeze(-1)
