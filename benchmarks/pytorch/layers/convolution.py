# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Causal convolutions along the sequence: a few taps, or as many as there are positions.

Shapes: B batch, L length, C channels, K taps.
"""

import torch
import torch.nn.functional as F

from .choice import Quickest


def at_least_float32(x):
    """Transforms and triangular systems know no 16-bit numbers."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


# Short, depthwise: x (B, L, C), weight (C, 1, K), bias (C) or None; the last tap is the position itself.


def short_conv_library(x, weight, bias):
    taps = weight.shape[-1]
    y = F.conv1d(x.transpose(1, 2), weight, bias, padding=taps - 1, groups=weight.shape[0])
    return y[..., : x.shape[1]].transpose(1, 2)


def short_conv_shifts(x, weight, bias):
    taps, length = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    y = padded[:, :length] * weight[:, 0, 0]
    y = y if bias is None else y + bias
    for j in range(1, taps):
        y = torch.addcmul(y, padded[:, j : j + length], weight[:, 0, j])
    return y


short_conv = Quickest("short convolution", library=short_conv_library, shifts=short_conv_shifts)


# Long: v (B, L, C), filter h (L, C), skip (C): h conv v + skip v, with transforms of length 2 L.


def long_conv_over_rows(v, h, skip):
    length = v.shape[1]
    spectrum = torch.fft.rfft(at_least_float32(h), 2 * length, dim=0)
    y = torch.fft.rfft(at_least_float32(v), 2 * length, dim=1) * spectrum
    return torch.addcmul(torch.fft.irfft(y, 2 * length, dim=1)[:, :length], v, skip)


def long_conv_transposed(v, h, skip):
    length = v.shape[1]
    spectrum = torch.fft.rfft(at_least_float32(h).t().contiguous(), 2 * length)
    y = torch.fft.rfft(at_least_float32(v).transpose(1, 2).contiguous(), 2 * length) * spectrum
    return torch.addcmul(torch.fft.irfft(y, 2 * length)[..., :length].transpose(1, 2), v, skip)


long_conv = Quickest("long convolution", transposed=long_conv_transposed, over_rows=long_conv_over_rows)


# The outer products of heads under a long convolution: q, k, v (B, L, G, M), h (L, G), skip (G);
# y_j = sum_i q_i (h conv (v_i k_j) + skip v_i k_j).


def outer_conv_transforms(q, k, v, h, skip):
    """The reference's form: all M x M products are convolved with transforms."""
    batch, length, groups, size = q.shape
    products = torch.einsum("blgi,blgj->bgijl", v, k)
    spectrum = torch.fft.rfft(at_least_float32(h).t().contiguous(), 2 * length).view(groups, 1, 1, length + 1)
    y = torch.fft.irfft(torch.fft.rfft(at_least_float32(products), 2 * length) * spectrum, 2 * length)[..., :length]
    y = torch.addcmul(y, products, skip.view(groups, 1, 1, 1))
    return torch.einsum("blgi,bgijl->blgj", q, y.to(q.dtype))


def outer_conv_scores(q, k, v, h, skip):
    """y_t = sum_s (h_{t-s} + skip [s = t]) (q_t . v_s) k_s: attention whose scores are weighted by the filter."""
    length = q.shape[1]
    position = torch.arange(length, device=q.device)
    distance = position.unsqueeze(1) - position
    taps = torch.cat((h[:1] + skip, h[1:])).t()
    weights = taps[:, distance.clamp(min=0)].tril()
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return ((q @ v.transpose(-1, -2) * weights) @ k).transpose(1, 2)


outer_conv = Quickest("convolution of outer products", transforms=outer_conv_transforms, scores=outer_conv_scores)
