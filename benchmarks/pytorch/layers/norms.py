# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Root-mean-square norms, with and without gate."""

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019)."""

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        if hasattr(F, "rms_norm"):  # PyTorch 2.4 and later
            return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class GatedRMSNorm(RMSNorm):
    """The norm of each head times silu of a gate of the same shape."""

    def forward(self, x, gate):
        return super().forward(x) * F.silu(gate)
