# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Mamba and Mamba-2: selective state-space models.

Shapes: B batch, L length, D width, C channels, N states, H heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from . import chunked
from .choice import Quickest
from .convolution import short_conv
from .linear_attention import chunk_sizes
from .norms import RMSNorm


def initial_time_steps(count, dt_min=0.001, dt_max=0.1, floor=1e-4):
    """The inverse softplus of log-uniform time steps."""
    dt = torch.exp(torch.rand(count) * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))


# S_t = a_t S_{t-1} + b_t, all states; a, b (B, L, C N).


def recurrence_autograd(a, b):
    state, states = torch.zeros_like(b[:, 0]), []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1)):
        state = torch.addcmul(b_t, a_t, state)
        states.append(state)
    return torch.stack(states, 1)


def recurrence_doubling(a, b):
    """Hillis and Steele: log2(L) passes over the whole sequence."""
    shift, length = 1, a.shape[1]
    while shift < length:
        b = torch.cat((b[:, :shift], torch.addcmul(b[:, shift:], a[:, shift:], b[:, :-shift])), 1)
        a = torch.cat((a[:, :shift], a[:, shift:] * a[:, :-shift]), 1)
        shift *= 2
    return b


class Recurrence(torch.autograd.Function):
    """One call per position each way, no autograd graph inside: g_t = d_t + a_{t+1} g_{t+1}, da_t = g_t S_{t-1}."""

    @staticmethod
    def forward(context, a, b):
        states = torch.empty_like(b)
        states[:, 0] = b[:, 0]
        views = states.unbind(1)
        for t, (a_t, b_t) in enumerate(zip(a.unbind(1), b.unbind(1))):
            if t > 0:
                torch.addcmul(b_t, a_t, views[t - 1], out=views[t])
        context.save_for_backward(a, states)
        return states

    @staticmethod
    def backward(context, d_states):
        a, states = context.saved_tensors
        g = torch.empty_like(states)
        g[:, -1] = d_states[:, -1]
        g_views, a_views, d_views = g.unbind(1), a.unbind(1), d_states.unbind(1)
        for t in range(len(g_views) - 2, -1, -1):
            torch.addcmul(d_views[t], a_views[t + 1], g_views[t + 1], out=g_views[t])
        d_a = torch.zeros_like(a)
        torch.mul(g[:, 1:], states[:, :-1], out=d_a[:, 1:])
        return d_a, g


recurrence = Quickest("recurrence", compiled="doubling", loop=Recurrence.apply, loop_autograd=recurrence_autograd,
                      doubling=recurrence_doubling)


def selective_scan(u, dt, a, b, c, d):
    """u, dt (B, L, C); a (C, N); b, c (B, L, N); d (C)."""
    decay = torch.exp(dt.unsqueeze(-1) * a)
    drive = (dt * u).unsqueeze(-1) * b.unsqueeze(2)
    states = recurrence(decay.flatten(2), drive.flatten(2).to(decay.dtype)).view_as(drive)
    return torch.addcmul(torch.matmul(states, c.unsqueeze(-1).to(states.dtype)).squeeze(-1), u, d)


class Mamba(nn.Module):
    """Gu and Dao 2023."""

    def __init__(self, dim, d_state=4, d_conv=4, expand=2, dt_rank="auto", dt_min=0.001, dt_max=0.1, dt_scale=1.0,
                 dt_init_floor=1e-4, conv_bias=True, bias=False):
        super().__init__()
        inner, rank = int(expand * dim), math.ceil(dim / 16) if dt_rank == "auto" else dt_rank
        self.sizes = (rank, d_state, d_state)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=bias)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, bias=conv_bias)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5) * dt_scale, rank**-0.5 * dt_scale)
        self.dt_proj.bias = nn.Parameter(initial_time_steps(inner, dt_min, dt_max, dt_init_floor))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=bias)

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(short_conv(u, self.conv1d.weight, self.conv1d.bias))
        d, b, c = self.x_proj(u).split(self.sizes, -1)
        y = selective_scan(u, F.softplus(self.dt_proj(d)), -torch.exp(self.A_log), b, c, self.D)
        return self.out_proj(y * F.silu(z))


ssd = Quickest("state space duality", **chunk_sizes(chunked.scalar_decay, 64, 128, 32))


class Mamba2(nn.Module):
    """Dao and Gu 2024."""

    def __init__(self, dim, d_state=8, head_dim=64, expand=2, n_groups=1, d_conv=4):
        super().__init__()
        inner = int(expand * dim)
        heads, mixed = inner // head_dim, inner + 2 * n_groups * d_state
        self.head_dim, self.groups, self.inner = head_dim, n_groups, inner
        self.sizes, self.mixed_sizes = (inner, mixed, heads), (inner, n_groups * d_state, n_groups * d_state)
        self.in_proj = nn.Linear(dim, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, d_conv, groups=mixed)
        self.dt_bias = nn.Parameter(initial_time_steps(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = RMSNorm(inner // n_groups)
        self.norm.weight = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x):
        z, mixed, dt = self.in_proj(x).split(self.sizes, -1)
        mixed = F.silu(short_conv(mixed, self.conv1d.weight, self.conv1d.bias))
        u, b, c = mixed.split(self.mixed_sizes, -1)
        u = u.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        b, c = (s.unflatten(-1, (self.groups, -1)).transpose(1, 2) for s in (b, c))
        dt = F.softplus(dt + self.dt_bias).transpose(1, 2)
        a = -dt * torch.exp(self.A_log).unsqueeze(-1)
        y, _ = ssd(c, b, u * dt.unsqueeze(-1), a)
        y = torch.addcmul(y, u, self.D.view(-1, 1, 1)).transpose(1, 2).flatten(2) * F.silu(z)
        if self.groups == 1:
            return self.out_proj(self.norm(y))
        y = y.unflatten(-1, (self.groups, -1))
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.norm.eps)
        return self.out_proj(y.flatten(-2) * self.norm.weight)
