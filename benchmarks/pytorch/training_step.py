# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Training steps of small language models in eager PyTorch on the CPU, float32: the other side of
benchmarks/training_step_benchmark.cpp, with the same formulas, weights, data and optimiser.

Reads weights and data from a safetensors file, then takes one step per line of standard input and answers with one
line of JSON: {"milliseconds": time of the step, "cpu_milliseconds": of all threads, "loss": before it}. Where an
operation can be written in several ways, each is timed once on the case at hand and the quickest is used.

Shapes: B batch, L length, D width, C channels, N states, H heads. No dropout, LayerNorm, pre-norm residual blocks.
"""

import argparse
import json
import math
import sys
import time

import numpy
import torch
import torch.nn.functional as F

HEAD_WIDTH = 8
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.1
IGNORED_TARGET = -100
NUMBER_TYPES = {"F32": numpy.float32, "F64": numpy.float64, "I64": numpy.int64, "U8": numpy.uint8}


def read_safetensors(path):
    """All tensors of a file by name: 8 bytes with the header's size, JSON header, numbers."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = numpy.frombuffer(data[begin:end], NUMBER_TYPES[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(values.copy())
    return tensors


def wall_and_cpu(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


class Quickest:
    """Several ways to compute the same; the first call with gradients times them all, forward and backward."""

    chosen = {}

    def __init__(self, name, *ways):
        self.name, self.ways = name, ways

    def __call__(self, *arguments):
        key = (self.name, *(tuple(a.shape) for a in arguments))
        if key not in self.chosen:
            self.chosen[key] = min(self.ways, key=lambda way: self.seconds(way, arguments))
        return self.chosen[key](*arguments)

    @staticmethod
    def seconds(way, arguments):
        taken = []
        for _ in range(4):
            leaves = [a.detach().requires_grad_() for a in arguments]
            with torch.enable_grad():
                taken.append(wall_and_cpu(lambda: way(*leaves).sum().backward())[1])
        return min(taken[1:])


# Short depthwise causal convolution: x (B, L, C), weight (C, 1, K), bias (C).


def short_conv_library(x, weight, bias):
    taps = weight.shape[-1]
    y = F.conv1d(x.transpose(1, 2), weight, bias, padding=taps - 1, groups=weight.shape[0])
    return y[..., : x.shape[1]].transpose(1, 2)


def short_conv_shifts(x, weight, bias):
    taps, length = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    y = torch.addcmul(bias, padded[:, :length], weight[:, 0, 0])
    for j in range(1, taps):
        y = torch.addcmul(y, padded[:, j : j + length], weight[:, 0, j])
    return y


short_conv = Quickest("short convolution", short_conv_library, short_conv_shifts)


# Long causal convolution: v (B, L, C), filter h (L, C), skip (C); transforms of length 2 L.


def long_conv_over_rows(v, h, skip):
    length = v.shape[1]
    spectrum = torch.fft.rfft(h, 2 * length, dim=0)
    y = torch.fft.irfft(torch.fft.rfft(v, 2 * length, dim=1) * spectrum, 2 * length, dim=1)[:, :length]
    return torch.addcmul(y, v, skip)


def long_conv_transposed(v, h, skip):
    length = v.shape[1]
    spectrum = torch.fft.rfft(h.t().contiguous(), 2 * length)
    channels_first = v.transpose(1, 2).contiguous()
    y = torch.fft.irfft(torch.fft.rfft(channels_first, 2 * length) * spectrum, 2 * length)[..., :length]
    return torch.addcmul(y.transpose(1, 2), v, skip)


long_conv = Quickest("long convolution", long_conv_over_rows, long_conv_transposed)


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


recurrence = Quickest("recurrence", Recurrence.apply, recurrence_autograd, recurrence_doubling)


def selective_scan(u, dt, a, b, c, d):
    """u, dt (B, L, C); a (C, N); b, c (B, L, N); d (C)."""
    decay = torch.exp(dt.unsqueeze(-1) * a)
    drive = (dt * u).unsqueeze(-1) * b.unsqueeze(2)
    states = recurrence(decay.flatten(2), drive.flatten(2)).view_as(drive)
    return torch.addcmul(torch.matmul(states, c.unsqueeze(-1)).squeeze(-1), u, d)


class Case:
    """A model as a dictionary of parameters and a forward pass, and one batch of data."""

    def __init__(self, path, stack):
        tensors = read_safetensors(path)
        self.inputs, self.targets = tensors.pop("inputs"), tensors.pop("targets")
        self.parameters = {name: value.requires_grad_() for name, value in tensors.items()}
        self.layers = [getattr(self, LAYERS[shorthand]) for shorthand in stack.split("-")]
        self.width = self.parameters["token_embeds.weight"].shape[1]
        length = self.inputs.shape[1]
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, HEAD_WIDTH, 2) / HEAD_WIDTH))
        self.cos, self.sin = angles.cos(), angles.sin()
        self.mask = torch.full((length, length), -math.inf).triu(1)
        self.time = torch.linspace(0, 1, length).unsqueeze(1)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True)

    def linear(self, x, name):
        return F.linear(x, self.parameters[name + ".weight"], self.parameters.get(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, (self.width,), self.parameters[name + ".weight"], self.parameters[name + ".bias"])

    def rotate(self, x):
        """x (B, H, L, 8): pairs (j, j + 4) turned by position times frequency."""
        first, second = x.chunk(2, -1)
        return torch.cat((first * self.cos - second * self.sin, first * self.sin + second * self.cos), -1)

    def attention(self, x, name):
        batch, length, width = x.shape
        heads = width // HEAD_WIDTH
        q, k, v = self.linear(x, name + "Wqkv").view(batch, length, 3, heads, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        q, k = self.rotate(q).flatten(0, 1), self.rotate(k).flatten(0, 1)
        scores = torch.baddbmm(self.mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(HEAD_WIDTH))
        mixed = torch.bmm(scores.softmax(-1), v.reshape(-1, length, HEAD_WIDTH))
        mixed = mixed.view(batch, heads, length, HEAD_WIDTH).transpose(1, 2).reshape(batch, length, width)
        return self.linear(mixed, name + "out_proj")

    def swiglu(self, x, name):
        return self.linear(F.silu(self.linear(x, name + "w1")) * self.linear(x, name + "w2"), name + "w3")

    def hyena_filter(self, name, length):
        """(L, C): a network with sine activations on positional features, times exponential windows."""
        frequency = self.parameters[name + "implicit_filter.1.freq"]
        h = self.parameters[name + "pos_emb.z"][0, :length]
        for index in (0, 2, 4):
            h = torch.sin(frequency * self.linear(h, f"{name}implicit_filter.{index}"))
        h = self.linear(h, name + "implicit_filter.6")
        target, slow, fast = 0.01, 1.5, 0.3
        rates = torch.linspace(math.log(target) / slow, math.log(target) / fast, h.shape[1]).abs()
        return h * torch.exp(-self.time[:length] * rates)

    def hyena(self, x, name):
        projected = self.linear(x, name + "in_proj")
        weight, bias = self.parameters[name + "short_filter.weight"], self.parameters[name + "short_filter.bias"]
        tiled = projected.repeat(1, 1, weight.shape[0] // projected.shape[-1])
        x0, x1, v = short_conv(tiled, weight, bias).chunk(3, -1)
        h = self.hyena_filter(name + "long_conv.filter.", x.shape[1])
        return self.linear(x0 * long_conv(x1 * v, h, self.parameters[name + "long_conv.bias"]), name + "out_proj")

    def mamba(self, x, name):
        p = self.parameters
        u, z = self.linear(x, name + "in_proj").chunk(2, -1)
        u = F.silu(short_conv(u, p[name + "conv1d.weight"], p[name + "conv1d.bias"]))
        a = -torch.exp(p[name + "A_log"])
        states, rank = a.shape[1], p[name + "dt_proj.weight"].shape[1]
        d, b, c = self.linear(u, name + "x_proj").split((rank, states, states), -1)
        y = selective_scan(u, F.softplus(self.linear(d, name + "dt_proj")), a, b, c, p[name + "D"])
        return self.linear(y * F.silu(z), name + "out_proj")

    def step(self):
        x = F.embedding(self.inputs, self.parameters["token_embeds.weight"])
        for i, layer in enumerate(self.layers):
            x = x + layer(self.norm(x, f"model.{i}.0"), f"model.{i}.1.")
        logits = self.linear(self.norm(x, "unembed.0"), "unembed.1")
        loss = F.cross_entropy(logits.flatten(0, 1), self.targets.flatten(), ignore_index=IGNORED_TARGET)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


LAYERS = {"mA": "attention", "Sg": "swiglu", "H": "hyena", "Mb": "mamba"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="safetensors file written by training_step_benchmark --json --write")
    parser.add_argument("--stack", required=True, help="layers, such as H-mA-Sg-Mb")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    case = Case(arguments.case, arguments.stack)
    for _ in sys.stdin:
        loss, wall, cpu = wall_and_cpu(case.step)
        ways = {key[0]: way.__name__ for key, way in Quickest.chosen.items()}
        print(json.dumps({"milliseconds": wall, "cpu_milliseconds": cpu, "loss": loss, "ways": ways}), flush=True)


if __name__ == "__main__":
    main()
