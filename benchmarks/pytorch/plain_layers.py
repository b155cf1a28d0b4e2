# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Recurrences and newer layers once more, position by position as their equations stand, without any thought of speed:
what check_layers.py holds the chunked forms against.

A recurrence takes tensors (B, H, L, width) and returns outputs, without any scale, and the final state (B, H, K, V). A
layer takes its parameters by name, its input (B, L, D) and its options.
"""

import math

import torch
import torch.nn.functional as F


def scan(update, read, state, length):
    outputs = []
    for t in range(length):
        before, state = state, update(state, t)
        outputs.append(read(before, state, t))
    return torch.stack(outputs, 2), state


def outer(k, v):
    return k.unsqueeze(-1) * v.unsqueeze(-2)


def read_row(q, state):
    return torch.einsum("bhk,bhkv->bhv", q, state)


def start(q, v, state):
    return q.new_zeros(*v.shape[:2], q.shape[-1], v.shape[-1]) if state is None else state


def gated(q, k, v, a, bonus=None, state=None):
    """a (B, H, L, K) or, for one decay per head, (B, H, L, 1). bonus (H, K)."""
    def read(before, after, t):
        return read_row(q[:, :, t], after if bonus is None else before + outer(bonus * k[:, :, t], v[:, :, t]))
    update = lambda s, t: a[:, :, t].exp().unsqueeze(-1) * s + outer(k[:, :, t], v[:, :, t])
    return scan(update, read, start(q, v, state), q.shape[2])


def delta_rule(q, k, v, beta, g=None, state=None):
    def update(s, t):
        s = s if g is None else g[:, :, t, None, None].exp() * s
        return s + outer(k[:, :, t], beta[:, :, t, None] * (v[:, :, t] - read_row(k[:, :, t], s)))
    return scan(update, lambda _, s, t: read_row(q[:, :, t], s), start(q, v, state), q.shape[2])


def rwkv7(r, k, v, w, kk, a, state=None):
    """w: decays, not their logarithms."""
    def update(s, t):
        erased = read_row(kk[:, :, t], s)
        return w[:, :, t].unsqueeze(-1) * s - outer(kk[:, :, t] * a[:, :, t], erased) + outer(k[:, :, t], v[:, :, t])
    return scan(update, lambda _, s, t: read_row(r[:, :, t], s), start(r, v, state), r.shape[2])


def heads(x, count):
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def joined(x):
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def conv_silu(x, weight, bias=None):
    y = torch.zeros_like(x) if bias is None else bias.expand_as(x)
    taps = weight.shape[-1]
    for j in range(taps):
        shift = taps - 1 - j
        y = y + weight[:, 0, j] * torch.cat((torch.zeros_like(x[:, :shift]), x[:, : x.shape[1] - shift]), 1)
    return y * torch.sigmoid(y)


def rms(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight


def l2(x):
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def before(x):
    return torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)


def delta_net(p, x, num_heads, gate=False, allow_neg_eigval=False):
    q, k, v = (heads(conv_silu(x @ p[f"{n}_proj.weight"].T, p[f"{n}_conv1d.weight"]), num_heads) for n in "qkv")
    beta = torch.sigmoid(x @ p["b_proj.weight"].T).transpose(1, 2) * (2 if allow_neg_eigval else 1)
    o = rms(delta_rule(l2(q), l2(k), v, beta)[0] / math.sqrt(q.shape[-1]), p["o_norm.weight"])
    if gate:
        o = o * F.silu(heads(x @ p["g_proj.weight"].T, num_heads))
    return joined(o) @ p["o_proj.weight"].T


def gated_delta_net(p, x, num_heads, num_v_heads):
    q, k = (heads(conv_silu(x @ p[f"{n}_proj.weight"].T, p[f"{n}_conv1d.weight"]), num_heads) for n in "qk")
    v = heads(conv_silu(x @ p["v_proj.weight"].T, p["v_conv1d.weight"]), num_v_heads)
    source = [h * num_heads // num_v_heads for h in range(num_v_heads)]
    q, k = l2(q)[:, source], l2(k)[:, source]
    beta = torch.sigmoid(x @ p["b_proj.weight"].T).transpose(1, 2)
    g = (-torch.exp(p["A_log"]) * torch.log1p(torch.exp(x @ p["a_proj.weight"].T + p["dt_bias"]))).transpose(1, 2)
    o = rms(delta_rule(q, k, v, beta, g)[0] / math.sqrt(q.shape[-1]), p["o_norm.weight"])
    return joined(o * F.silu(heads(x @ p["g_proj.weight"].T, num_v_heads))) @ p["o_proj.weight"].T


def mamba2(p, x, head_dim, d_state, n_groups):
    inner = p["out_proj.weight"].shape[1]
    count = inner // head_dim
    z, mixed, dt = (x @ p["in_proj.weight"].T).split((inner, inner + 2 * n_groups * d_state, count), -1)
    mixed = conv_silu(mixed, p["conv1d.weight"], p["conv1d.bias"])
    u, b, c = mixed.split((inner, n_groups * d_state, n_groups * d_state), -1)
    u, source = heads(u, count), [h * n_groups // count for h in range(count)]
    b, c = heads(b, n_groups)[:, source], heads(c, n_groups)[:, source]
    dt = torch.log1p(torch.exp(dt + p["dt_bias"])).transpose(1, 2).unsqueeze(-1)
    y = gated(c, b, dt * u, -dt * torch.exp(p["A_log"]).view(1, -1, 1, 1))[0] + p["D"].view(1, -1, 1, 1) * u
    y = heads(joined(y) * F.silu(z), n_groups)
    return (joined(rms(y, 1.0)) * p["norm.weight"]) @ p["out_proj.weight"].T


def rotated(x):
    """All of the head width, by positions: pairs (j, j + d/2)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[2], dtype=x.dtype).unsqueeze(1) * 10000.0 ** (
        -torch.arange(half, dtype=x.dtype) / half)
    turn = torch.polar(torch.ones_like(angle), angle)
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat((turned.real, turned.imag), -1)


def retnet(p, x, num_heads):
    q, k, v, gate = (heads(x @ p[f"{n}_proj.weight"].T, num_heads) for n in "qkvg")
    gamma = 1 - 2.0 ** (-5.0 - torch.arange(num_heads, dtype=x.dtype))
    o = gated(rotated(q), rotated(k), v, gamma.log().view(1, -1, 1, 1).expand(1, -1, x.shape[1], 1))[0]
    o = rms(o / math.sqrt(q.shape[-1]), p["g_norm_swish_gate.weight"])
    return joined(o * F.silu(gate)) @ p["o_proj.weight"].T


def hgrn2(p, x, expand):
    count = x.shape[-1] // expand
    q = heads(F.silu(x @ p["q_proj.weight"].T), count)
    forget = torch.sigmoid(heads(x @ p["f_proj.weight"].T, count))
    o = gated(q / math.sqrt(expand), 1 - forget, heads(x @ p["i_proj.weight"].T, count), forget.log())[0]
    return rms(joined(o), p["g_norm.weight"]) @ p["o_proj.weight"].T


def rwkv7_time_mixer(p, x, head_dim):
    count, delta = x.shape[-1] // head_dim, before(x) - x
    x_r, x_w, x_k, x_v, x_a, x_g = (x + delta * p[f"x_{n}"] for n in "rwkvag")
    r, k, v = x_r @ p["receptance.weight"].T, x_k @ p["key.weight"].T, x_v @ p["value.weight"].T
    w = torch.exp(-math.exp(-0.5) * torch.sigmoid(torch.tanh(x_w @ p["w1"]) @ p["w2"] + p["w0"]))
    a = torch.sigmoid(x_a @ p["a1"] @ p["a2"] + p["a0"])
    gate = torch.sigmoid(x_g @ p["g1"]) @ p["g2"]
    kk = heads(k * p["k_k"], count)
    kk = kk / (kk * kk).sum(-1, keepdim=True).sqrt()
    r, k, v, w, a = (heads(y, count) for y in (r, k * (1 + (a - 1) * p["k_a"]), v, w, a))
    o = rwkv7(r, k, v, w, kk, a)[0]
    centred = o - o.mean(-1, keepdim=True)
    o = joined(centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-5 * head_dim))
    o = o * p["ln_x.weight"] + p["ln_x.bias"] + joined((r * k * p["r_k"].unsqueeze(1)).sum(-1, keepdim=True) * v)
    return (o * gate) @ p["output.weight"].T


def rwkv7_channel_mixer(p, x):
    hidden = (x + (before(x) - x) * p["x_k"]) @ p["key.weight"].T
    return torch.relu(hidden) ** 2 @ p["value.weight"].T
