# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""RWKV 5, 6 and 7: time mixers and channel mixers.

Shapes: B batch, H heads, L length, D width, d head width. Initial values are those of a first and only layer.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from . import chunked
from .choice import Quickest
from .convolution import at_least_float32
from .linear_attention import chunk_sizes, join_heads, split_heads

# The decays of RWKV 5 and 6 can be strong, RWKV 7 keeps them above exp(-0.61): see chunked on the range of numbers.
rwkv_recurrence = Quickest("RWKV recurrence", **chunk_sizes(chunked.key_decay, 16, 32))
rwkv7_recurrence = Quickest("RWKV-7 recurrence", **chunk_sizes(chunked.diagonal_plus_low_rank, 16, 32, 64))


def previous(x):
    """Each position's predecessor, zero for the first."""
    return F.pad(x, (0, 0, 1, -1))


def mix(x, before, share):
    return torch.lerp(before, x, share.to(x.dtype))


def ramp(dim):
    return (torch.arange(dim) / dim).view(1, 1, dim)


def head_norm(o, norm, eps):
    """Each head of o (B, H, L, d) standardised, with the weights of norm (H d); joined to (B, L, H d)."""
    batch, heads, length, _ = o.shape
    rows = at_least_float32(join_heads(o)).flatten(0, 1)
    return F.group_norm(rows, heads, norm.weight, norm.bias, eps).unflatten(0, (batch, length))


class RWKV5TimeMixer(nn.Module):
    """Peng et al. 2024, "Eagle and Finch": Eagle."""

    def __init__(self, dim, head_dim=16, head_dim_divisor=8, n_layer=1, layer_id=0):
        super().__init__()
        self.heads, self.divisor = dim // head_dim, head_dim_divisor
        rho, sigma = layer_id / (n_layer - 1) if n_layer > 1 else 0.0, 1 - layer_id / n_layer
        self.initial_mixes(ramp(dim), rho, sigma)
        channel = torch.arange(dim)
        decay = -6 + 5 * (channel / (dim - 1)) ** (0.7 + 1.3 * rho)
        self.initial_decay(decay, head_dim)
        bonus = rho * (1 - channel / (dim - 1)) + 0.1 * ((channel + 1) % 3 - 1)
        self.time_faaaa = nn.Parameter(bonus.view(-1, head_dim))
        for name in ("receptance", "key", "value", "gate", "output"):
            self.add_module(name, nn.Linear(dim, dim, bias=False))
        self.ln_x = nn.GroupNorm(self.heads, dim)

    def initial_mixes(self, ramp, rho, sigma):
        self.time_mix_k, self.time_mix_v = nn.Parameter(ramp**sigma), nn.Parameter(ramp**sigma + 0.3 * rho)
        self.time_mix_r, self.time_mix_g = nn.Parameter(ramp ** (sigma / 2)), nn.Parameter(ramp ** (sigma / 2))

    def initial_decay(self, decay, head_dim):
        self.time_decay = nn.Parameter(decay.view(-1, head_dim))

    def operate(self, x_r, x_k, x_v, x_g, log_decay, eps):
        r, k, v = (split_heads(project(mixed), self.heads) for project, mixed in (
            (self.receptance, x_r), (self.key, x_k), (self.value, x_v)))
        y, _ = rwkv_recurrence(r, k, v, log_decay, self.time_faaaa.unsqueeze(1))
        return self.output(head_norm(y, self.ln_x, eps) * F.silu(self.gate(x_g)))

    def forward(self, x):
        before = previous(x)
        x_r, x_k, x_v, x_g = (mix(x, before, share) for share in (
            self.time_mix_r, self.time_mix_k, self.time_mix_v, self.time_mix_g))
        log_decay = -torch.exp(self.time_decay).unsqueeze(1).expand(-1, x.shape[1], -1).unsqueeze(0)
        # Dividing what is standardised is the same as a larger eps.
        return self.operate(x_r, x_k, x_v, x_g, log_decay, 1e-5 * self.divisor**2)


class RWKV6TimeMixer(RWKV5TimeMixer):
    """Peng et al. 2024, "Eagle and Finch": Finch, whose mixes and decays depend on the input."""

    def initial_mixes(self, ramp, rho, sigma):
        dim, small = ramp.shape[-1], lambda *shape: nn.Parameter(torch.empty(*shape).uniform_(-1e-4, 1e-4))
        for name in ("x", "w", "k"):
            setattr(self, f"time_maa_{name}", nn.Parameter(1 - ramp**sigma))
        self.time_maa_v = nn.Parameter(1 - (ramp**sigma + 0.3 * rho))
        for name in ("r", "g"):
            setattr(self, f"time_maa_{name}", nn.Parameter(1 - ramp ** (sigma / 2)))
        self.time_maa_w1, self.time_maa_w2 = small(dim, 160), small(5, 32, dim)
        self.time_decay_w1, self.time_decay_w2 = small(dim, 64), small(64, dim)

    def initial_decay(self, decay, head_dim):
        self.time_decay = nn.Parameter(decay.view(1, 1, -1))

    def forward(self, x):
        batch, length, dim = x.shape
        delta = previous(x) - x
        low_rank = torch.tanh(torch.addcmul(x, delta, self.time_maa_x) @ self.time_maa_w1)
        learned = torch.bmm(low_rank.view(-1, 5, 32).transpose(0, 1), self.time_maa_w2).view(5, batch, length, dim)
        x_w, x_k, x_v, x_r, x_g = (
            torch.addcmul(x, delta, share + m) for m, share in zip(learned, (
                self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)))
        w = self.time_decay + torch.tanh(x_w @ self.time_decay_w1) @ self.time_decay_w2
        return self.operate(x_r, x_k, x_v, x_g, split_heads(-torch.exp(w), self.heads), 1e-5 * self.divisor**2)


class RWKV5ChannelMixer(nn.Module):
    def __init__(self, dim, dim_inner=512, n_layer=1, layer_id=0):
        super().__init__()
        self.initial_mixes(ramp(dim) ** (1 - layer_id / n_layer))
        self.key, self.value = nn.Linear(dim, dim_inner, bias=False), nn.Linear(dim_inner, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)

    def initial_mixes(self, ramp):
        self.time_mix_k, self.time_mix_r = nn.Parameter(ramp), nn.Parameter(ramp.clone())

    def mixed(self, x):
        before = previous(x)
        return mix(x, before, self.time_mix_k), mix(x, before, self.time_mix_r)

    def forward(self, x):
        x_k, x_r = self.mixed(x)
        return torch.sigmoid(self.receptance(x_r)) * self.value(F.relu(self.key(x_k)).square())


class RWKV6ChannelMixer(RWKV5ChannelMixer):
    def initial_mixes(self, ramp):
        self.time_maa_k, self.time_maa_r = nn.Parameter(1 - ramp), nn.Parameter(1 - ramp)

    def mixed(self, x):
        delta = previous(x) - x
        return torch.addcmul(x, delta, self.time_maa_k), torch.addcmul(x, delta, self.time_maa_r)


class RWKV7TimeMixer(nn.Module):
    """Peng et al. 2025, "Goose", without the value residual across layers (as in a first layer)."""

    def __init__(self, dim, head_dim=16, rank_w=32, rank_a=32, rank_g=32):
        super().__init__()
        self.heads, self.head_dim = dim // head_dim, head_dim
        for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
            setattr(self, f"x_{name}", nn.Parameter(1 - ramp(dim) ** power))
        line = torch.arange(dim) / (dim - 1)
        middle = (head_dim - 1) / 2
        z = (torch.arange(dim) % head_dim - middle) / middle
        s = z * z.abs()
        self.w0 = nn.Parameter((-5.5 + 6 * line + 2.5 * s).view(1, 1, dim))  # 0^0.3 = 0: the ramp's power is 1
        self.a0 = nn.Parameter((-0.19 + 0.3 * s + 0.4 * (line - 0.5)).view(1, 1, dim))
        for name, rank in (("w", rank_w), ("a", rank_a), ("g", rank_g)):
            setattr(self, f"{name}1", nn.Parameter(torch.zeros(dim, rank)))
            second = nn.init.orthogonal_(torch.empty(rank, dim), gain=0.1 * math.sqrt(max(1, rank / dim)))
            setattr(self, f"{name}2", nn.Parameter(second))
        self.k_k = nn.Parameter((0.71 - 0.1 * (line - 0.5)).view(1, 1, dim))
        self.k_a = nn.Parameter(torch.full((1, 1, dim), 1.02))
        self.r_k = nn.Parameter(torch.full((self.heads, head_dim), -0.04))
        for name, gain in (("receptance", 1.0), ("key", 0.1), ("value", 1.0), ("output", 0.0)):
            linear = nn.Linear(dim, dim, bias=False)
            nn.init.orthogonal_(linear.weight, gain=gain)
            self.add_module(name, linear)
        self.ln_x = nn.GroupNorm(self.heads, dim)

    def forward(self, x):
        delta = previous(x) - x
        x_r, x_w, x_k, x_v, x_a, x_g = (torch.addcmul(x, delta, share) for share in (
            self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g))
        r, k, v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        log_decay = -math.exp(-0.5) * torch.sigmoid(self.w0 + torch.tanh(x_w @ self.w1) @ self.w2)
        a = torch.sigmoid(self.a0 + x_a @ self.a1 @ self.a2)
        gate = torch.sigmoid(x_g @ self.g1) @ self.g2
        kk = F.normalize(split_heads(k * self.k_k, self.heads), dim=-1, eps=1e-12)
        k = torch.addcmul(k, k * self.k_a, a - 1)
        r, k, v, a, log_decay = (split_heads(y, self.heads) for y in (r, k, v, a, log_decay))
        o, _ = rwkv7_recurrence(r, k, v, log_decay, -kk, kk * a)
        o = head_norm(o, self.ln_x, 1e-5 * self.head_dim)
        bonus = (r * k * self.r_k.unsqueeze(1)).sum(-1, keepdim=True) * v
        return self.output((o + join_heads(bonus)) * gate)


class RWKV7ChannelMixer(nn.Module):
    def __init__(self, dim, dim_inner=512):
        super().__init__()
        self.x_k = nn.Parameter(1 - ramp(dim))
        self.key, self.value = nn.Linear(dim, dim_inner, bias=False), nn.Linear(dim_inner, dim, bias=False)
        nn.init.uniform_(self.key.weight, -0.5 * dim**-0.5, 0.5 * dim**-0.5)
        nn.init.zeros_(self.value.weight)

    def forward(self, x):
        return self.value(F.relu(self.key(torch.addcmul(x, previous(x) - x, self.x_k))).square())
