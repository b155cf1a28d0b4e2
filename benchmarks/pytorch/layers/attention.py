# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Softmax attention: multi-head, single-head, sliding window, grouped key/value heads.

Shapes: B batch, H heads, L length, d head width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .choice import Quickest


def attention_library(q, k, v, mask, scale, window):
    """PyTorch 2's own attention; it has no window, which then takes the mask."""
    if window < 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), scale=scale)


def attention_scores(q, k, v, mask, scale, window):
    batch, heads, length, width = q.shape
    q, k, v = (x.reshape(batch * heads, length, width) for x in (q, k, v))
    scores = torch.baddbmm(mask.to(q.dtype), q, k.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1).to(v.dtype), v).view(batch, heads, length, width)


ways = {"scores": attention_scores}
if hasattr(F, "scaled_dot_product_attention"):
    ways["library"] = attention_library
attend = Quickest("attention", compiled=list(ways)[-1], **ways)


def rotation(length, width, base=10000.0):
    """cos, sin (L, width / 2) of position times frequency."""
    angles = torch.outer(torch.arange(length, dtype=torch.float64),
                         base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width))
    return angles.cos().to(torch.get_default_dtype()), angles.sin().to(torch.get_default_dtype())


def rotate(x, cos, sin):
    """The first 2 R of the last axis of x (..., L, d): pairs (j, j + R) turned by cos, sin (L, R)."""
    width = 2 * cos.shape[-1]
    first, second = x[..., :width].chunk(2, -1)
    turned = torch.cat((first * cos - second * sin, first * sin + second * cos), -1).to(x.dtype)
    return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), -1)


class Attention(nn.Module):
    """Causal softmax attention (Vaswani et al. 2017) with rotary positions (Su et al. 2021)."""

    def __init__(self, dim, max_length, n_heads=1, rotary_emb_dim=0, window_size=(-1, -1), num_heads_kv=None,
                 softmax_scale=None, qkv_proj_bias=True, out_proj_bias=True, rotary_emb_base=10000.0):
        super().__init__()
        self.head_width = dim // n_heads
        self.heads, self.kv_heads = n_heads, num_heads_kv or n_heads
        self.scale, self.window = softmax_scale or 1 / math.sqrt(self.head_width), window_size[0]
        self.Wqkv = nn.Linear(dim, dim + 2 * self.kv_heads * self.head_width, bias=qkv_proj_bias)
        self.out_proj = nn.Linear(dim, dim, bias=out_proj_bias)
        position = torch.arange(max_length)
        distance = position.unsqueeze(1) - position
        hidden = (distance < 0) | ((distance > self.window) & (self.window >= 0))
        self.register_buffer("mask", torch.zeros(hidden.shape).masked_fill(hidden, -math.inf), persistent=False)
        self.rotated = rotary_emb_dim > 0
        for name, table in zip(("cos", "sin"), rotation(max_length, rotary_emb_dim, rotary_emb_base)):
            self.register_buffer(name, table, persistent=False)

    def forward(self, x):
        length = x.shape[1]
        qkv = self.Wqkv(x).unflatten(-1, (self.heads + 2 * self.kv_heads, self.head_width)).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), 1)
        if self.rotated:
            cos, sin = self.cos[:length], self.sin[:length]
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.kv_heads < self.heads:
            k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
        mixed = attend(q, k, v, self.mask[:length, :length], self.scale, self.window)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
