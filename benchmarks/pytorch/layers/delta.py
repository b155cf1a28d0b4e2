# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""DeltaNet and gated DeltaNet: linear attention that replaces what it remembers.

Shapes: B batch, H heads, L length, D width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import chunked
from .choice import Quickest
from .convolution import short_conv
from .linear_attention import chunk_sizes, join_heads, split_heads
from .mamba import initial_time_steps
from .norms import GatedRMSNorm, RMSNorm

delta_rule = Quickest("delta rule", **chunk_sizes(chunked.delta_rule, 64, 32, 16))
gated_delta_rule = Quickest("gated delta rule", **chunk_sizes(chunked.delta_rule, 64, 32, 16))


def unit(x):
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def depthwise(channels, taps):
    return nn.Conv1d(channels, channels, taps, groups=channels, bias=False)


class DeltaNet(nn.Module):
    """Yang et al. 2024, "Parallelizing linear transformers with the delta rule"."""

    def __init__(self, dim, num_heads=8, expand_k=1, expand_v=1, conv_size=4, gate=False, allow_neg_eigval=False):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        self.heads, self.scale, self.beta_scale = num_heads, (keys // num_heads) ** -0.5, 1 + allow_neg_eigval
        self.q_proj, self.k_proj = nn.Linear(dim, keys, bias=False), nn.Linear(dim, keys, bias=False)
        self.v_proj, self.b_proj = nn.Linear(dim, values, bias=False), nn.Linear(dim, num_heads, bias=False)
        self.q_conv1d, self.k_conv1d = depthwise(keys, conv_size), depthwise(keys, conv_size)
        self.v_conv1d = depthwise(values, conv_size)
        self.g_proj = nn.Linear(dim, values, bias=False) if gate else None
        self.o_norm = (GatedRMSNorm if gate else RMSNorm)(values // num_heads)
        self.o_proj = nn.Linear(values, dim, bias=False)

    def query_key_value(self, x):
        q, k, v = (F.silu(short_conv(project(x), conv.weight, None))
                   for project, conv in ((self.q_proj, self.q_conv1d), (self.k_proj, self.k_conv1d),
                                         (self.v_proj, self.v_conv1d)))
        return unit(split_heads(q, self.heads)), unit(split_heads(k, self.heads)), v

    def output(self, o, x):
        if self.g_proj is None:
            return self.o_proj(join_heads(self.o_norm(o)))
        return self.o_proj(join_heads(self.o_norm(o, split_heads(self.g_proj(x), o.shape[1]))))

    def forward(self, x):
        q, k, v = self.query_key_value(x)
        beta = self.beta_scale * torch.sigmoid(self.b_proj(x)).transpose(1, 2)
        o, _ = delta_rule(q * self.scale, k, split_heads(v, self.heads), beta)
        return self.output(o, x)


class GatedDeltaNet(DeltaNet):
    """Yang, Kautz and Hatamizadeh 2024. More value heads than key heads: each key head serves several."""

    def __init__(self, dim, num_heads=4, head_dim=16, expand_v=2, num_v_heads=None, conv_size=4,
                 allow_neg_eigval=False):
        v_heads = num_v_heads or num_heads
        keys, values = num_heads * head_dim, int(v_heads * head_dim * expand_v)
        super().__init__(dim, num_heads, keys / dim, values / dim, conv_size, True, allow_neg_eigval)
        self.v_heads = v_heads
        self.b_proj, self.a_proj = nn.Linear(dim, v_heads, bias=False), nn.Linear(dim, v_heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(v_heads).uniform_(0, 16).log())
        self.dt_bias = nn.Parameter(initial_time_steps(v_heads))
        self.o_norm = GatedRMSNorm(values // v_heads)

    def forward(self, x):
        q, k, v = self.query_key_value(x)
        if self.v_heads > self.heads:
            q, k = (y.repeat_interleave(self.v_heads // self.heads, 1) for y in (q, k))
        beta = self.beta_scale * torch.sigmoid(self.b_proj(x)).transpose(1, 2)
        g = (-torch.exp(self.A_log) * F.softplus(self.a_proj(x) + self.dt_bias)).transpose(1, 2)
        o, _ = gated_delta_rule(q * self.scale, k, split_heads(v, self.v_heads), beta, g)
        return self.output(o, x)
