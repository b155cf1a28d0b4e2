# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Checks benchmarks/pytorch/layers in double on the CPU: outputs and all gradients of every layer against the golden
fixtures, of every recurrence in several chunk sizes against its fixture, and of the newer layers, for which there are
no fixtures of the whole layer, against plain loops over the positions (plain_layers.py).

Prints a table of the largest errors, relative to the largest entry; the exit status is 1 if one is above the bound.
"""

import argparse
import inspect
import json
import os
import sys

import torch
import torch.nn.functional as F

import plain_layers as plain
from layers import attention, chunked, convolution, delta, linear_attention, mamba, rwkv
from layers.choice import Quickest
from layers.model import PRIMITIVES, load_parameters
from safetensors_file import read_safetensors

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden", "layers")
CHUNKS = (1, 5, 8, 16, 64)


def error(value, expected):
    return ((value - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()


def gradient(value, parameter):
    """PyTorch gives None where nothing was read."""
    return torch.zeros_like(parameter) if value is None else value


def worst(pairs):
    """The largest error of {name: (value, expected)}, and its name."""
    errors = {name: error(value, expected) for name, (value, expected) in pairs.items()}
    name = max(errors, key=lambda n: errors[n] if errors[n] == errors[n] else float("inf"))
    return errors[name], name


# Layers against their fixtures


def options_of(primitive, arguments):
    """The reference's arguments that our constructor knows. One that is left out and matters shows in the output."""
    long_conv = arguments.get("long_conv_cfg", {})
    arguments = {**{key: long_conv[key] for key in ("filter_cls", "filter_cfg") if key in long_conv}, **arguments}
    known = set(inspect.signature(primitive.layer.__init__).parameters) - {"dim"}
    return {key: value for key, value in arguments.items() if key in known}


def check_fixture(path):
    tensors, metadata = read_safetensors(path)
    config = json.loads(metadata["config"])
    arguments = config["args"]
    primitive = PRIMITIVES[config["layer"]]
    layer = primitive.layer(arguments["dim"], **options_of(primitive, arguments))
    load_parameters(layer, {name[6:]: value for name, value in tensors.items() if name.startswith("param.")})
    x = tensors["input"].requires_grad_()
    output = layer(x)
    (output * tensors["grad_output"]).sum().backward()
    pairs = {"output": (output, tensors["output"]), "input": (x.grad, tensors["grad_input"])}
    unread = json.loads(metadata.get("no_grad", "[]"))
    for name, parameter in layer.named_parameters():
        if name in unread:
            pairs[name] = (gradient(parameter.grad, parameter), torch.zeros_like(parameter))
        else:
            pairs[name] = (gradient(parameter.grad, parameter), tensors[f"grad.{name}"])
    return worst(pairs)


# Recurrences against their fixtures


def retention(i, way):
    count, length, keys = i["q"].shape[1:]
    decay = torch.log1p(-(2.0 ** (-5.0 - torch.arange(count, dtype=torch.float64))))
    return way(i["q"] * keys**-0.5, i["k"], i["v"], decay.view(1, -1, 1).expand(1, -1, length), i.get("initial_state"))


def delta_core(i, way, config):
    q, k = (delta.unit(i["q"]), delta.unit(i["k"])) if config["qk_l2norm"] else (i["q"], i["k"])
    beta, g = i.get("beta"), i.get("g")
    if config.get("raw_gates"):
        beta = torch.sigmoid(i["b"]) * (2 if config["allow_neg_eigval"] else 1)
        g = -(torch.exp(i["A_log"]).unsqueeze(1) * F.softplus(i["a"] + i["dt_bias"].unsqueeze(1)))
    return way(q * q.shape[-1] ** -0.5, k, i["v"], beta, g, i.get("initial_state"))


def ssd(i, way):
    dt = F.softplus(i["dt"] + i["dt_bias"]).transpose(1, 2)
    x, b, c = (i[name].transpose(1, 2) for name in ("x", "B", "C"))
    state = i["initial_state"].transpose(2, 3).contiguous() if "initial_state" in i else None
    y, state = way(c, b, x * dt.unsqueeze(-1), -dt * torch.exp(i["A_log"]).unsqueeze(1), state)
    return (y + i["D"].view(-1, 1, 1) * x).transpose(1, 2), state.transpose(2, 3)


def gla(i, way):
    return way(i["q"] * i["q"].shape[-1] ** -0.5, i["k"], i["v"], i["g"])


def hgrn2(i, way):
    return way(F.silu(i["q"]) * i["q"].shape[-1] ** -0.5, torch.sigmoid(-i["f"]), i["v"], F.logsigmoid(i["f"]))


def rwkv7(i, way):
    kk = F.normalize(i["kk"], dim=-1, eps=1e-12)
    decay = -torch.exp(torch.tensor(-0.5)) * torch.sigmoid(i["w"])
    o, state = way(i["r"], i["k"], i["v"], decay, -kk, kk * i["a"])
    return o, state.transpose(2, 3)


def wkv(i, way):
    a = -torch.exp(i["w"])
    a = a.unsqueeze(1).expand(-1, i["r"].shape[2], -1).unsqueeze(0) if a.dim() == 2 else a
    return way(i["r"], i["k"], i["v"], a, i["u"].unsqueeze(1))


def selective_scan(i, _):
    u, dt, b, c = (i[name].transpose(1, 2) for name in ("u", "delta", "B", "C"))
    dt = F.softplus(dt + i["delta_bias"])
    y = mamba.selective_scan(u, dt, -torch.exp(i["A_log"]), b, c, i["D"]).transpose(1, 2)
    return y * F.silu(i["z"]), None


CORES = {"retention": (chunked.scalar_decay, retention), "delta_rule": (chunked.delta_rule, delta_core),
         "gated_delta_rule": (chunked.delta_rule, delta_core), "ssd": (chunked.scalar_decay, ssd),
         "gla": (chunked.key_decay, gla), "hgrn2": (chunked.key_decay, hgrn2),
         "rwkv7": (chunked.diagonal_plus_low_rank, rwkv7), "wkv5": (chunked.key_decay, wkv),
         "wkv6": (chunked.key_decay, wkv), "selective_scan": (None, selective_scan)}


def check_core(path):
    tensors, metadata = read_safetensors(path)
    config = json.loads(metadata["config"])
    function, core = CORES[config["op"]]
    pairs = {}
    for chunk in CHUNKS if function else (1,):
        inputs = {name[6:]: value.clone().requires_grad_() for name, value in tensors.items()
                  if name.startswith("input.")}
        way = function and (lambda *a, **o: function(*a, **o, chunk=chunk))
        more = (config,) if core is delta_core else ()
        output, state = core(inputs, way, *more)
        (output * tensors["grad_output"]).sum().backward()
        pairs[f"output, chunk {chunk}"] = (output, tensors["output"])
        if state is not None and "final_state" in tensors:
            pairs[f"final state, chunk {chunk}"] = (state, tensors["final_state"])
        for name, value in inputs.items():
            pairs[f"{name}, chunk {chunk}"] = (gradient(value.grad, value), tensors[f"grad_input.{name}"])
    return worst(pairs)


# Newer layers against loops


def newer_layers(length):
    """Label: (layer, plain function, its options)."""
    new = lambda name, width, **options: PRIMITIVES[name].build(width, length, **options)
    yield "delta-net", new("delta-net", 32), plain.delta_net, dict(num_heads=2)
    yield ("delta-net gated, negative eigenvalues, expanded", new(
        "delta-net", 32, num_heads=4, expand_k=0.5, expand_v=2, gate=True, allow_neg_eigval=True),
        plain.delta_net, dict(num_heads=4, gate=True, allow_neg_eigval=True))
    yield "gated-delta-net", new("gated-delta-net", 64), plain.gated_delta_net, dict(num_heads=2, num_v_heads=2)
    yield ("gated-delta-net, more value heads", new("gated-delta-net", 32, num_heads=2, head_dim=4, num_v_heads=4),
           plain.gated_delta_net, dict(num_heads=2, num_v_heads=4))
    yield "mamba2", new("mamba2", 64), plain.mamba2, dict(head_dim=64, d_state=8, n_groups=1)
    yield ("mamba2, groups", new("mamba2", 32, head_dim=8, d_state=6, n_groups=2), plain.mamba2,
           dict(head_dim=8, d_state=6, n_groups=2))
    yield "retnet", new("retnet", 32), plain.retnet, dict(num_heads=4)
    yield "hgrn2", new("hgrn2", 32), plain.hgrn2, dict(expand=16)
    yield "rwkv7-time-mixer", new("rwkv7-time-mixer", 32), plain.rwkv7_time_mixer, dict(head_dim=16)
    yield "rwkv7-channel-mixer", new("rwkv7-channel-mixer", 32), plain.rwkv7_channel_mixer, {}


def check_newer(layer, function, options, length):
    generator = torch.Generator().manual_seed(length)
    noise = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():  # away from zeros and ones, which would hide terms
            parameter.add_(0.3 * noise(parameter.shape))
    first_map = next(module for module in layer.children() if isinstance(module, torch.nn.Linear))
    x = noise((2, length, first_map.in_features)).requires_grad_()
    grad_output = noise(x.shape)
    output = layer(x)
    names = [name for name, _ in layer.named_parameters()]
    leaves = [x, *layer.parameters()]
    gradients = torch.autograd.grad((output * grad_output).sum(), leaves, allow_unused=True)
    gradients = [gradient(*pair) for pair in zip(gradients, leaves)]
    expected = function(dict(layer.named_parameters()), x, **options)
    expected_gradients = torch.autograd.grad((expected * grad_output).sum(), leaves)
    return worst({"output": (output, expected),
                  **dict(zip(["input", *names], zip(gradients, expected_gradients)))})


def in_all_ways(check, *arguments):
    """The worst over the ways of every operation: the n-th way of each, for all n."""
    quickest = [value for module in (attention, convolution, delta, linear_attention, mamba, rwkv)
                for value in vars(module).values() if isinstance(value, Quickest)]
    results = []
    for n in range(max(len(q.ways) for q in quickest)):
        for q in quickest:
            q.first = list(q.ways)[n % len(q.ways)]
        Quickest.chosen.clear()
        results.append(check(*arguments))
    return max(results, key=lambda result: result[0] if result[0] == result[0] else float("inf"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", default=FIXTURES, help="folder of the fixtures (default: tests/golden/layers)")
    parser.add_argument("--bound", type=float, default=1e-8, help="largest error allowed (default: 1e-8)")
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    arguments = parser.parse_args()
    if not os.path.isdir(arguments.fixtures):
        parser.error(f"there is no folder of fixtures at '{arguments.fixtures}'; name it with --fixtures")
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    Quickest.search = False

    cases = []
    for file in sorted(os.listdir(arguments.fixtures)):
        name, ending = os.path.splitext(file)
        path = os.path.join(arguments.fixtures, file)
        if ending == ".safetensors" and name.startswith("core_"):
            cases.append((name, check_core, path))
        elif ending == ".safetensors" and json.loads(read_safetensors(path)[1]["config"]).get("layer") in PRIMITIVES \
                and not name.startswith("init_"):
            cases.append((name, check_fixture, path))
    for length in (7, 24, 100):
        for label, layer, function, options in newer_layers(length):
            cases.append((f"{label}, length {length}, against a loop", check_newer, layer, function, options, length))
    cases = [case for case in cases if arguments.only in case[0]]
    if not cases:
        parser.error(f"no case has '{arguments.only}' in its name")

    failed = 0
    print(f"{'case':68} {'error':>8}  where")
    for name, check, *rest in cases:
        value, where = in_all_ways(check, *rest)
        good = value <= arguments.bound
        failed += not good
        print(f"{name:68} {value:8.1e}  {where}{'' if good else '  ABOVE THE BOUND'}", flush=True)
    print(f"{len(cases)} cases, {failed} above {arguments.bound:g}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
