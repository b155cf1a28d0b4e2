# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Linear attention, its gated form, retention and HGRN2.

Shapes: B batch, H heads, L length, D width.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from . import chunked
from .attention import rotate, rotation
from .choice import Quickest
from .norms import GatedRMSNorm, RMSNorm


def split_heads(x, heads):
    """(B, L, H d) to (B, H, L, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x):
    return x.transpose(1, 2).flatten(2)


def chunk_sizes(function, *sizes):
    return {f"chunks_of_{size}": functools.partial(function, chunk=size) for size in sizes}


def linear_quadratic(q, k, v):
    return (q @ k.transpose(-1, -2)).tril() @ v


linear_recurrence = Quickest(
    "linear attention", quadratic=linear_quadratic,
    **{name: lambda q, k, v, way=way: way(q, k, v)[0] for name, way in chunk_sizes(chunked.linear, 64, 128).items()})
# The gates of gated linear attention are close to 1, HGRN2's are not: see chunked.key_decay on the range of numbers.
gated_recurrence = Quickest("gated linear attention", **chunk_sizes(chunked.key_decay, 64, 32, 16))
hgrn2_recurrence = Quickest("HGRN2 recurrence", **chunk_sizes(chunked.key_decay, 16, 32))
retention = Quickest("retention", parallel=functools.partial(chunked.scalar_decay, chunk=1 << 30),
                     **chunk_sizes(chunked.scalar_decay, 64, 128))


class Stateless(nn.Module):
    """A feature map without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Projected(nn.Module):
    """A feature map of one learned projection."""

    def __init__(self, width, function, identity=False):
        super().__init__()
        self.layer, self.function = nn.Linear(width, width), function
        if identity:
            nn.init.eye_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.function(self.layer(x))


class ElementwiseProduct(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return self.layer1(x) * self.layer2(x)


def dpfp(x):
    """Schlag et al. 2021, with the reference's -relu(x) where relu(-x) was meant."""
    r = torch.cat((x.relu(), -x.relu()), -1)
    return torch.cat([r * r.roll(j, -1) for j in range(1, 5)], -1)


def taylor(x):
    """Second order of exp(q k / sqrt(d)) (Arora et al. 2024), equal products gathered."""
    width = x.shape[-1]
    i, j = torch.triu_indices(width, width, 1, device=x.device)
    return torch.cat((torch.ones_like(x[..., :1]), x / width**0.25, x * x / math.sqrt(2 * width),
                      x[..., i] * x[..., j] / math.sqrt(width)), -1)


FEATURE_MAPS = {
    "identity": lambda width: Stateless(lambda x: x),
    "elu": lambda width: Stateless(lambda x: F.elu(x) + 1),
    "relu": lambda width: Stateless(torch.relu),
    "t2r": lambda width: Projected(width, torch.relu),
    "elementwise_product": ElementwiseProduct,
    "hedgehog": lambda width: Projected(width, lambda u: torch.cat((2 * u, -2 * u), -1).softmax(-1), identity=True),
    "dpfp": lambda width: Stateless(dpfp),
    "taylor": lambda width: Stateless(taylor),
}


class LinearAttention(nn.Module):
    """Katharopoulos et al. 2020; the sum that normalises is signed."""

    def __init__(self, dim, num_heads=1, feature_map="elementwise_product", expand_k=1, expand_v=1,
                 tie_feature_map_qk=False, norm_q=False, norm_k=False, eps=1e-12):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        self.heads, self.norm_q, self.norm_k, self.eps = num_heads, norm_q, norm_k, eps
        self.feature_map_q = FEATURE_MAPS[feature_map](keys // num_heads)
        self.feature_map_k = (self.feature_map_q if tie_feature_map_qk
                              else FEATURE_MAPS[feature_map](keys // num_heads))
        self.proj_q, self.proj_k = nn.Linear(dim, keys, bias=False), nn.Linear(dim, keys, bias=False)
        self.proj_v, self.out_proj = nn.Linear(dim, values, bias=False), nn.Linear(values, dim, bias=False)

    def forward(self, x):
        q = self.feature_map_q(split_heads(self.proj_q(x), self.heads))
        k = self.feature_map_k(split_heads(self.proj_k(x), self.heads))
        if self.norm_q:
            q = q / (q.sum(-1, keepdim=True) + 1e-4)
        if self.norm_k:
            k = k / (k.sum(-1, keepdim=True) + 1e-4)
        # One more value, always 1, sums the scores.
        o = linear_recurrence(q, k, F.pad(split_heads(self.proj_v(x), self.heads), (0, 1), value=1.0))
        return self.out_proj(join_heads(o[..., :-1] / (o[..., -1:] + self.eps)))


class GatedLinearAttention(nn.Module):
    """Yang et al. 2023."""

    def __init__(self, dim, num_heads=1, expand_k=1, expand_v=1, gate_low_rank_dim=16, gate_logit_normalizer=16,
                 layernorm_eps=1e-5, clamp_min=None, fuse_norm=False):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        self.heads, self.normalizer, self.clamp_min = num_heads, gate_logit_normalizer, clamp_min
        self.scale = (keys // num_heads) ** -0.5
        self.q_proj, self.k_proj = nn.Linear(dim, keys, bias=False), nn.Linear(dim, keys, bias=False)
        self.v_proj, self.g_proj = nn.Linear(dim, values, bias=False), nn.Linear(dim, values, bias=False)
        self.gk_proj = nn.Sequential(nn.Linear(dim, gate_low_rank_dim, bias=False), nn.Linear(gate_low_rank_dim, keys))
        self.o_proj = nn.Linear(values, dim, bias=False)
        self.norm_name = "g_norm_swish_gate" if fuse_norm else "g_norm"
        self.add_module(self.norm_name, GatedRMSNorm(values // num_heads, layernorm_eps))
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.g_proj, *self.gk_proj, self.o_proj):
            nn.init.xavier_uniform_(linear.weight, gain=2**-2.5)

    def forward(self, x):
        q, k, v = (split_heads(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        a = F.logsigmoid(split_heads(self.gk_proj(x), self.heads)) / self.normalizer
        if self.clamp_min is not None:
            a = a.clamp(min=self.clamp_min)
        o, _ = gated_recurrence(q * self.scale, k, v, a)
        gate = split_heads(self.g_proj(x), self.heads)
        return self.o_proj(join_heads(getattr(self, self.norm_name)(o, gate)))


class RetNet(nn.Module):
    """Multi-scale retention (Sun et al. 2023)."""

    def __init__(self, dim, max_length, num_heads=8, expand_k=1, expand_v=1):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        self.heads, self.scale = num_heads, (keys // num_heads) ** -0.5
        self.q_proj, self.k_proj = nn.Linear(dim, keys, bias=False), nn.Linear(dim, keys, bias=False)
        self.v_proj, self.g_proj = nn.Linear(dim, values, bias=False), nn.Linear(dim, values, bias=False)
        self.o_proj = nn.Linear(values, dim, bias=False)
        self.g_norm_swish_gate = GatedRMSNorm(values // num_heads)
        for name, table in zip(("cos", "sin"), rotation(max_length, keys // num_heads)):
            self.register_buffer(name, table, persistent=False)
        self.register_buffer("log_decay", torch.log1p(-torch.exp2(-5.0 - torch.arange(
            num_heads, dtype=torch.get_default_dtype()))), persistent=False)

    def forward(self, x):
        length = x.shape[1]
        q, k, v, gate = (split_heads(project(x), self.heads)
                         for project in (self.q_proj, self.k_proj, self.v_proj, self.g_proj))
        cos, sin = self.cos[:length], self.sin[:length]
        q, k = rotate(q, cos, sin) * self.scale, rotate(k, cos, sin)
        o, _ = retention(q, k, v, self.log_decay.view(1, -1, 1).expand(1, -1, length))
        return self.o_proj(join_heads(self.g_norm_swish_gate(o, gate)))


class HGRN2(nn.Module):
    """Qin et al. 2024: gated linear attention whose keys are what the gates forget."""

    def __init__(self, dim, expand=16):
        super().__init__()
        self.heads, self.scale = dim // expand, expand**-0.5
        self.q_proj, self.f_proj = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.i_proj, self.o_proj = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.g_norm = RMSNorm(dim)

    def forward(self, x):
        q = split_heads(F.silu(self.q_proj(x)), self.heads)
        f, v = split_heads(self.f_proj(x), self.heads), split_heads(self.i_proj(x), self.heads)
        o, _ = hgrn2_recurrence(q * self.scale, torch.sigmoid(-f), v, F.logsigmoid(f))
        return self.o_proj(self.g_norm(join_heads(o)))
