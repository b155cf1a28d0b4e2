# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Hyena, multi-head Hyena and Hyena experts: gated long convolutions with implicit filters.

Shapes: B batch, L length, D width, C filters. Lmax is the length of the filter's own grid.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .channel import routing_weights
from .convolution import long_conv, outer_conv, short_conv


class Sine(nn.Module):
    def __init__(self, width, frequency):
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, width), float(frequency)))

    def forward(self, x):
        return torch.sin(self.freq * x)


class PositionFeatures(nn.Module):
    """z (1, Lmax, e), trained: the position and a few of its waves; t (1, Lmax, 1): the position from 0 to 1."""

    def __init__(self, width, max_length):
        super().__init__()
        t = torch.linspace(0, 1, max_length).view(1, -1, 1)
        bands = (width - 1) // 2
        frequencies = torch.linspace(1e-4, bands - 1, bands) if bands > 1 else torch.full((1,), 1e-4)
        phase = frequencies * (2 * math.pi / max_length * torch.arange(max_length).view(1, -1, 1))
        self.z = nn.Parameter(torch.cat((t, phase.cos(), -phase.sin()), -1))
        self.register_buffer("t", t, persistent=False)


class Modulation(nn.Module):
    """Exponential windows: h exp(-t |delta|) + shift h."""

    def __init__(self, filters, fast_decay_pct, slow_decay_pct, target, shift, trained):
        super().__init__()
        self.shift = shift
        deltas = torch.linspace(math.log(target) / slow_decay_pct, math.log(target) / fast_decay_pct, filters)
        if trained:
            self.deltas = nn.Parameter(deltas.view(1, 1, -1))
        else:
            self.register_buffer("deltas", deltas.view(1, 1, -1), persistent=False)

    def forward(self, t, h):
        return h * (torch.exp(-t * self.deltas.abs()) + self.shift)


class ImplicitFilter(nn.Module):
    """A network with sine activations on positional features, times exponential windows. One frequency for all."""

    def __init__(self, filters, max_length, order=16, emb_dim=3, depth_implicit=2, w=1.0, modulate=True,
                 normalized=False, fast_decay_pct=0.3, slow_decay_pct=1.5, target=0.01, shift=0.0, modulation_lr=0.0,
                 nested=False):  # nested has no effect, as in the reference
        super().__init__()
        self.pos_emb, sine = PositionFeatures(emb_dim, max_length), Sine(order, w)
        layers = [nn.Linear(emb_dim, order), sine]
        for _ in range(depth_implicit):
            layers += [nn.Linear(order, order), sine]
        self.implicit_filter = nn.Sequential(*layers, nn.Linear(order, filters, bias=False))
        self.modulation = Modulation(filters, fast_decay_pct, slow_decay_pct, target, shift,
                                     modulation_lr != 0) if modulate else None
        self.post_modulation_norm = nn.LayerNorm(filters) if normalized else None

    def forward(self, length):
        """(L, C)."""
        h = self.implicit_filter(self.pos_emb.z[:, :length])
        if self.modulation is not None:
            h = self.modulation(self.pos_emb.t[:, :length], h)
        if self.post_modulation_norm is not None:
            h = self.post_modulation_norm(h)
        return h[0]


class RationalFilter(nn.Module):
    """The impulse response of a rational transfer function (Parnichkun et al. 2024), folded to the grid."""

    def __init__(self, filters, max_length, state_size, num_a=None, init="zeros"):
        super().__init__()
        if init != "zeros":
            raise ValueError(f"the initial values '{init}' of a rational filter are not written here, only 'zeros'")
        self.groups, self.size = num_a or filters, max_length + max_length % 2
        self.ab = nn.Parameter(torch.zeros(self.groups + filters, state_size))
        self.h_0 = nn.Parameter(torch.randn(filters))

    def forward(self, length):
        a, b = self.ab[: self.groups], self.ab[self.groups :]
        numerator = torch.fft.rfft(F.pad(b, (1, 0)), self.size)
        denominator = torch.fft.rfft(F.pad(a, (1, 0), value=1.0), self.size)
        spectrum = numerator / denominator.repeat_interleave(len(b) // len(a), 0) + self.h_0.unsqueeze(1)
        return torch.fft.irfft(spectrum, self.size)[:, :length].t()


class LongConv(nn.Module):
    def __init__(self, filters, max_length, filter_cls="implicit", filter_cfg=None):
        super().__init__()
        kinds = {"implicit": ImplicitFilter, "rtf": RationalFilter}
        self.bias = nn.Parameter(torch.randn(filters))
        self.filter = kinds[filter_cls](filters, max_length, **(filter_cfg or {}))


class Hyena(nn.Module):
    """Poli et al. 2023, as in the reference: blocks beyond the third are computed but unused."""

    def __init__(self, dim, max_length, order=2, inner_factor=4, proj_groups=4, short_filter_order=3, num_heads=1,
                 filter_cls="implicit", filter_cfg=None):
        super().__init__()
        inner = inner_factor * dim
        total = (order + 1) * inner
        self.order, self.max_length, self.proj_groups = order, max_length, proj_groups
        self.in_proj = nn.Linear(dim, total // proj_groups)
        self.short_filter = nn.Conv1d(total, total, short_filter_order, groups=total)
        self.long_conv = LongConv(self.filters(inner, num_heads), max_length, filter_cls, filter_cfg or {"order": 4})
        self.out_proj = nn.Linear(inner, dim)

    def filters(self, inner, num_heads):
        return inner * (self.order - 1) // num_heads

    def blocks(self, x):
        tiled = self.in_proj(x).repeat(1, 1, self.proj_groups)
        u = short_conv(tiled, self.short_filter.weight, self.short_filter.bias)
        return u[:, : self.max_length].chunk(self.order + 1, -1)

    def forward(self, x):
        x0, x1, *_, v = self.blocks(x)
        h = self.long_conv.filter(v.shape[1])
        return self.out_proj(x0 * long_conv(x1 * v, h, self.long_conv.bias))


class MultiHeadHyena(Hyena):
    """Massaroli et al. 2023. `num_heads` is the width M of a head, as in the reference; a filter for each head."""

    def __init__(self, dim, max_length, num_heads=16, inner_factor=1, proj_groups=4, short_filter_order=3,
                 filter_cfg=None):
        super().__init__(dim, max_length, 2, inner_factor, proj_groups, short_filter_order, num_heads,
                         filter_cfg=filter_cfg or {"order": 2})
        self.head_width = num_heads

    def forward(self, x):
        q, k, v = (block.unflatten(-1, (-1, self.head_width)) for block in self.blocks(x))
        y = outer_conv(q, k, v, self.long_conv.filter(q.shape[1]), self.long_conv.bias)
        return self.out_proj(y.flatten(2))


class HyenaExperts(nn.Module):
    """Hyena whose channels belong to experts, which a router weights; every expert runs."""

    def __init__(self, dim, max_length, dim_inner=16, num_experts=8, active_experts=2, order=2, short_filter_order=3,
                 outer_mixing=False, activation="id", filter_cfg=None):
        super().__init__()
        if dim_inner * num_experts != dim:
            raise ValueError(f"experts must share out the width: {dim_inner} x {num_experts} channels are not {dim}")
        total = (order + 1) * dim
        self.order, self.num_experts, self.active_experts = order, num_experts, active_experts
        self.outer_mixing, self.activation = outer_mixing, {"id": lambda x: x, "silu": F.silu}[activation]
        self.in_proj = nn.Linear(dim, total)
        self.short_filter = nn.Conv1d(total, total, short_filter_order, groups=total)
        self.long_conv = LongConv(dim * (order - 1), max_length, filter_cfg=filter_cfg)
        self.router, self.out_proj = nn.Linear(dim, num_experts), nn.Linear(dim_inner, dim)

    def forward(self, x):
        u = short_conv(self.in_proj(x), self.short_filter.weight, self.short_filter.bias)
        *gates, v = u.chunk(self.order + 1, -1)
        stages = self.order - 1
        h = self.long_conv.filter(x.shape[1]).unflatten(-1, (-1, stages))
        skip = self.long_conv.bias.unflatten(-1, (-1, stages))
        for stage in range(stages):
            gate = gates[-1 - stage]
            v = long_conv(v * (gate.sum(-1, keepdim=True) if self.outer_mixing else gate), h[..., stage],
                          skip[..., stage])
        y = self.activation(v * gates[0]).unflatten(-1, (-1, self.num_experts))
        weights = routing_weights(self.router(x), self.active_experts)
        return self.out_proj((y @ weights.to(y.dtype).unsqueeze(-1)).squeeze(-1))
