# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Linear recurrences with matrix states, evaluated in chunks: matrix products inside a chunk, a short loop or one more
matrix product over the chunks.

Shapes: B batch, H heads, L length, K key width, V value width, n chunks of C positions. q, k (B, H, L, K) and
v (B, H, L, V) unless stated; log decays are at most 0. Every function takes an initial state (B, H, K, V) or None and
returns the outputs (B, H, L, V), without any scale, and the final state. Positions that fill up the last chunk carry
zeros, which leave the state alone.
"""

import torch
import torch.nn.functional as F

from .convolution import at_least_float32


def cut(x, chunk):
    """(B, H, L, ...) to (B, H, n, C, ...)."""
    missing = -x.shape[2] % chunk
    if missing:
        x = F.pad(x, (0, 0) * (x.dim() - 3) + (0, missing))
    return x.unflatten(2, (x.shape[2] // chunk, chunk))


def joined(o, length):
    return o.flatten(2, 3)[:, :, :length]


def causal(size, device):
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def pairwise_decay(c):
    """exp(c_t - c_s) for s <= t, else 0; c (..., C) are cumulated log decays, the result is (..., C, C)."""
    difference = c.unsqueeze(-1) - c.unsqueeze(-2)
    return difference.masked_fill(~causal(c.shape[-1], c.device), -torch.inf).exp()


def zeros(q, v):
    return at_least_float32(q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]))


def unit_lower_solve(strict, right):
    """(I + strict)^-1 right with a strictly lower triangular matrix: the WY representation's triangular system."""
    return torch.linalg.solve_triangular(
        at_least_float32(strict), at_least_float32(right), upper=False, unitriangular=True)


def linear(q, k, v, state=None, chunk=64):
    """S_t = S_{t-1} + k_t^T v_t, o_t = q_t S_t."""
    length, chunk = q.shape[2], min(chunk, q.shape[2])
    state = zeros(q, v) if state is None else state
    q, k, v = (cut(x, chunk) for x in (q, k, v))
    updates = k.transpose(-1, -2) @ v
    after = state.unsqueeze(2) + updates.cumsum(2)
    before = torch.cat((state.unsqueeze(2), after[:, :, :-1]), 2)
    return joined((q @ k.transpose(-1, -2)).tril() @ v + q @ before, length), after[:, :, -1]


def scalar_decay(q, k, v, a, state=None, chunk=64):
    """S_t = exp(a_t) S_{t-1} + k_t^T v_t, o_t = q_t S_t: retention, state space duality (Dao and Gu 2024, listing 1).

    a (B or 1, H, L); q and k may have fewer heads G than v: value head h then reads head h / (H/G) of them. The states
    between chunks come from one product with a matrix of decays, as in the listing.
    """
    batch, heads, length, values = v.shape
    groups, keys, chunk = q.shape[1], q.shape[3], min(chunk, length)
    each = heads // groups
    by_group = lambda x: cut(x, chunk).unflatten(1, (groups, each))
    q, k, v, a = cut(q, chunk), cut(k, chunk), by_group(v), by_group(a)  # v (B, G, H/G, n, C, V), a (B, G, H/G, n, C)
    count = v.shape[3]
    c = a.cumsum(-1)
    scores = (q @ k.transpose(-1, -2)).unsqueeze(2) * pairwise_decay(c)
    inside = scores @ v
    # The heads of a group side by side: one product with its keys.
    columns = (v * (c[..., -1:] - c).exp().unsqueeze(-1)).permute(0, 1, 3, 4, 2, 5).flatten(4)
    updates = (k.transpose(-1, -2) @ columns).unflatten(-1, (each, values)).permute(0, 1, 4, 2, 3, 5).flatten(4)
    if state is None:
        first = torch.zeros_like(updates[:, :, :, :1])
    else:
        first = state.view(batch, groups, each, 1, keys * values)
    between = pairwise_decay(F.pad(c[..., -1], (1, 0)).cumsum(-1))
    states = between @ torch.cat((first, updates), 3)  # (B, G, H/G, n + 1, K V)
    before = states[:, :, :, :-1].unflatten(4, (keys, values)).permute(0, 1, 3, 4, 2, 5).flatten(4)
    carried = (q @ before).unflatten(-1, (each, values)).permute(0, 1, 4, 2, 3, 5)
    o = torch.addcmul(inside, carried, c.exp().unsqueeze(-1))
    return joined(o.flatten(1, 2), length), states[:, :, :, count].reshape(batch, heads, keys, values)


def key_decay(q, k, v, a, bonus=None, state=None, chunk=16):
    """S_t = diag(exp(a_t)) S_{t-1} + k_t^T v_t, o_t = q_t S_t: gated linear attention (Yang et al. 2023), HGRN2.

    With a bonus (H, 1, K): o_t = q_t (S_{t-1} + diag(bonus) k_t^T v_t), RWKV-5 and 6. a (B or 1, H, L, K).
    Queries and keys carry the cumulated decays, relative to half of the chunk's: exponents stay below half of what a
    chunk decays, and that must stay below 88 in 32-bit.
    """
    length, chunk = q.shape[2], min(chunk, q.shape[2])
    state = zeros(q, v) if state is None else state
    if bonus is not None:
        extra = (q * bonus * k).sum(-1, keepdim=True) * v
    q, k, v, a = (cut(x, chunk) for x in (q, k, v, a))
    c = a.cumsum(3)
    half = c[..., -1:, :] / 2
    q = q * ((c if bonus is None else c - a) - half).exp()
    k = k * (half - c).exp()
    scores = (q @ k.transpose(-1, -2)).tril(0 if bonus is None else -1)
    updates = (k.transpose(-1, -2) @ v).unbind(2)
    shrink = half.transpose(-1, -2).exp().unbind(2)
    before = []
    for n in range(len(updates)):
        before.append(shrink[n] * state)
        state = shrink[n] * (before[n] + updates[n])
    o = joined(scores @ v + q @ torch.stack(before, 2), length)
    return (o if bonus is None else o + extra), state


def delta_rule(q, k, v, beta, g=None, state=None, chunk=64):
    """S' = exp(g_t) S_{t-1}, S_t = S' + beta_t k_t^T (v_t - k_t S'), o_t = q_t S_t; beta, g (B, H, L).

    The WY form of Yang et al. (2024): with u_t = beta_t (v_t - k_t S'), a chunk's u solve a triangular system.
    """
    length, chunk = q.shape[2], min(chunk, q.shape[2])
    state = zeros(q, v) if state is None else state
    q, k, v, beta = (cut(x, chunk) for x in (q, k, v, beta.unsqueeze(-1)))
    overlap, scores = (k * beta) @ k.transpose(-1, -2), (q @ k.transpose(-1, -2)).tril()
    keys, seen, kept, shrink = k * beta, q, k, None
    if g is not None:
        c = cut(g, chunk).cumsum(-1)
        decay, into = pairwise_decay(c), c.exp().unsqueeze(-1)
        overlap, scores = overlap * decay, scores * decay
        keys, seen, kept = keys * into, q * into, k * (c[..., -1:] - c).exp().unsqueeze(-1)
        shrink = into[..., -1:, :].unbind(2)
    alone, response = unit_lower_solve(overlap.tril(-1), torch.cat((v * beta, keys), -1)).split(
        (v.shape[-1], k.shape[-1]), -1)
    alone, response, kept = alone.unbind(2), response.unbind(2), kept.transpose(-1, -2).unbind(2)
    before, u = [], []
    for n in range(len(kept)):
        before.append(state)
        u.append(alone[n] - response[n] @ state)
        state = (state if shrink is None else shrink[n] * state) + kept[n] @ u[n]
    return joined(seen @ torch.stack(before, 2) + scores @ torch.stack(u, 2), length), state


def diagonal_plus_low_rank(q, k, v, a, erase, write, state=None, chunk=64):
    """S_t = diag(exp(a_t)) S_{t-1} + write_t^T (erase_t S_{t-1}) + k_t^T v_t, o_t = q_t S_t: RWKV-7.

    a, erase, write (B, H, L, K). The WY form with the decays carried as in key_decay: u_t = erase_t S_{t-1} solves a
    triangular system in each chunk.
    """
    length, chunk = q.shape[2], min(chunk, q.shape[2])
    state = zeros(q, v) if state is None else state
    q, k, v, a, erase, write = (cut(x, chunk) for x in (q, k, v, a, erase, write))
    c = a.cumsum(3)
    half = c[..., -1:, :] / 2
    grown, seen = (half - c).exp(), (c - half).exp()
    q, erase, k, write = q * seen, erase * (c - a - half).exp(), k * grown, write * grown
    products = torch.cat((q, erase), 3) @ torch.cat((write, k), 3).transpose(-1, -2)  # (B, H, n, 2 C, 2 C)
    (q_write, q_k), (erase_write, erase_k) = (rows.chunk(2, 4) for rows in products.chunk(2, 3))
    alone, response = unit_lower_solve(
        -erase_write.tril(-1), torch.cat((erase_k.tril(-1) @ v, erase), -1)).split((v.shape[-1], k.shape[-1]), -1)
    alone, response, write = alone.unbind(2), response.unbind(2), write.transpose(-1, -2).unbind(2)
    updates, shrink = (k.transpose(-1, -2) @ v).unbind(2), half.transpose(-1, -2).exp().unbind(2)
    before, u = [], []
    for n in range(len(updates)):
        before.append(shrink[n] * state)
        u.append(alone[n] + response[n] @ before[n])
        state = shrink[n] * (before[n] + updates[n] + write[n] @ u[n])
    o = q @ torch.stack(before, 2) + q_write.tril() @ torch.stack(u, 2) + q_k.tril() @ v
    return joined(o, length), state
