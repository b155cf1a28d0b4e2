# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Every primitive by name, with its default options, and language models made of them."""

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention
from .channel import MLP, MoEMLP, SwiGLU
from .delta import DeltaNet, GatedDeltaNet
from .hyena import Hyena, HyenaExperts, MultiHeadHyena
from .linear_attention import HGRN2, GatedLinearAttention, LinearAttention, RetNet
from .mamba import Mamba, Mamba2
from .rwkv import (RWKV5ChannelMixer, RWKV5TimeMixer, RWKV6ChannelMixer, RWKV6TimeMixer, RWKV7ChannelMixer,
                   RWKV7TimeMixer)

IGNORED_TARGET = -100


class Primitive:
    """A layer's class, shorthand and default options at width D; `grid` for layers that are made for a greatest
    length."""

    def __init__(self, layer, shorthand, options=lambda D: {}, grid=False, channel=False):
        self.layer, self.shorthand, self.options, self.grid, self.channel = layer, shorthand, options, grid, channel

    def build(self, width, max_length, **options):
        if self.grid:
            options["max_length"] = max_length
        return self.layer(width, **{**self.options(width), **options})


# As the library's defaults: those of the reference at width 128. Other widths keep head widths, states and ratios. The
# newer mixers have 2,048 numbers of matrix state at width 128.
PRIMITIVES = {
    "attention": Primitive(Attention, "A", lambda D: dict(n_heads=1, rotary_emb_dim=D), grid=True),
    "sliding-attention": Primitive(
        Attention, "As", lambda D: dict(n_heads=1, rotary_emb_dim=D, window_size=(32, 32)), grid=True),
    "mh-attention": Primitive(Attention, "mA", lambda D: dict(n_heads=D // 8, rotary_emb_dim=8), grid=True),
    "mh-sliding-attention": Primitive(
        Attention, "mAs", lambda D: dict(n_heads=D // 8, rotary_emb_dim=8, window_size=(32, 32)), grid=True),
    "linear-attention": Primitive(LinearAttention, "Al", lambda D: dict(num_heads=1)),
    "mh-linear-attention": Primitive(LinearAttention, "mAl", lambda D: dict(num_heads=D // 8)),
    "gated-linear-attention": Primitive(GatedLinearAttention, "Alg", lambda D: dict(num_heads=1)),
    "mh-gated-linear-attention": Primitive(GatedLinearAttention, "mAlg", lambda D: dict(num_heads=D // 16)),
    "hyena": Primitive(Hyena, "H", lambda D: dict(filter_cfg={"order": 4}), grid=True),
    "mh-hyena": Primitive(MultiHeadHyena, "mH", lambda D: dict(filter_cfg={"order": 2}), grid=True),
    "hyena-experts": Primitive(
        HyenaExperts, "He", lambda D: dict(dim_inner=D // 8, filter_cfg={"order": 16}), grid=True),
    "mamba": Primitive(Mamba, "Mb"),
    "rwkv5-time-mixer": Primitive(RWKV5TimeMixer, "R5t", lambda D: dict(head_dim=16)),
    "rwkv6-time-mixer": Primitive(RWKV6TimeMixer, "R6t", lambda D: dict(head_dim=16)),
    "rwkv7-time-mixer": Primitive(RWKV7TimeMixer, "R7t", lambda D: dict(head_dim=16)),
    "retnet": Primitive(RetNet, "Rn", lambda D: dict(num_heads=D // 8, expand_v=2), grid=True),
    "hgrn2": Primitive(HGRN2, "Hg", lambda D: dict(expand=16)),
    "mamba2": Primitive(Mamba2, "Mb2", lambda D: dict(d_state=8, head_dim=64)),
    "delta-net": Primitive(DeltaNet, "Dn", lambda D: dict(num_heads=D // 16)),
    "gated-delta-net": Primitive(GatedDeltaNet, "Gdn", lambda D: dict(num_heads=D // 32, head_dim=16, expand_v=2)),
    "mlp": Primitive(MLP, "M", channel=True),
    "swiglu": Primitive(SwiGLU, "Sg", channel=True),
    "moe-mlp": Primitive(MoEMLP, "MoE", lambda D: dict(dim_inner=D // 8), channel=True),
    "rwkv5-channel-mixer": Primitive(RWKV5ChannelMixer, "R5c", lambda D: dict(dim_inner=4 * D), channel=True),
    "rwkv6-channel-mixer": Primitive(RWKV6ChannelMixer, "R6c", lambda D: dict(dim_inner=4 * D), channel=True),
    "rwkv7-channel-mixer": Primitive(RWKV7ChannelMixer, "R7c", lambda D: dict(dim_inner=4 * D), channel=True),
}
BY_SHORTHAND = {primitive.shorthand: name for name, primitive in PRIMITIVES.items()}


def four_layers(name):
    """The stack that a primitive is timed in: a mixer between SwiGLUs, a channel mixer between attentions."""
    pair = ("mh-attention", name) if PRIMITIVES[name].channel else (name, "swiglu")
    return pair * 2


# What is timed. Mamba, which mixes channels too, also without a channel mixer.
STACKS = {name: four_layers(name) for name in PRIMITIVES} | {"mamba-alone": ("mamba",) * 4}


def shorthand(names):
    return "-".join(PRIMITIVES[name].shorthand for name in names)


class LanguageModel(nn.Module):
    """Embedding, pre-norm residual blocks, head; parameters are named as in the reference."""

    def __init__(self, names, width, max_length, vocab_size=16):
        super().__init__()
        self.token_embeds = nn.Embedding(vocab_size, width)
        self.model = nn.ModuleList(
            nn.ModuleList((nn.LayerNorm(width), PRIMITIVES[name].build(width, max_length))) for name in names)
        self.unembed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocab_size))
        nn.init.normal_(self.token_embeds.weight, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and module.bias is not None and not name.endswith("dt_proj"):
                nn.init.zeros_(module.bias)

    def forward(self, tokens):
        x = self.token_embeds(tokens)
        for norm, layer in self.model:
            x = x + layer(norm(x))
        return self.unembed(x)

    def loss(self, tokens, targets):
        return F.cross_entropy(self(tokens).flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED_TARGET)


def load_parameters(module, tensors):
    """Sets all parameters from tensors of the same names. A parameter with several names may come under any of them;
    the layers' constants are computed, not read."""
    owners, waiting = {}, {id(p): name for name, p in module.named_parameters()}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for name, parameter in owner.named_parameters(recurse=False):
            owners[f"{prefix}.{name}" if prefix else name] = parameter
    constants = {name for name, _ in module.named_buffers()}
    for name, tensor in tensors.items():
        if name in constants:
            continue
        if name not in owners or tuple(owners[name].shape) != tuple(tensor.shape):
            expected = tuple(owners[name].shape) if name in owners else "no such parameter"
            raise ValueError(f"tensor '{name}' has the shape {tuple(tensor.shape)}, expected {expected}")
        with torch.no_grad():
            owners[name].copy_(tensor)
        waiting.pop(id(owners[name]), None)
    if waiting:
        raise ValueError(f"no tensor for the parameter '{next(iter(waiting.values()))}'")
