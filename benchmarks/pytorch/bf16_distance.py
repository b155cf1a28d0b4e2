# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""What bfloat16 costs in PyTorch: outputs and gradients of every layer under autocast, beside the same in double.

Parameters, inputs and the outputs' gradients are numbers that bfloat16 holds. Prints a table in Markdown: for every
primitive the largest distance over its tensors and the lengths, relative to the tensor's norm, and which it was.
"""

import argparse
import copy

import torch

from layers.choice import Quickest
from layers.model import PRIMITIVES


def held(tensor):
    return tensor.bfloat16().to(tensor.dtype)


def tensors_of(layer, x, grad_output, autocast):
    """Name: tensor, of the output and all gradients."""
    x = x.clone().requires_grad_()
    names, leaves = zip(*layer.named_parameters())
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=autocast):
        output = layer(x)
    gradients = torch.autograd.grad((output.to(grad_output.dtype) * grad_output).sum(), [x, *leaves], allow_unused=True)
    found = {"output": output, "gradient of the input": gradients[0]}
    found.update({f"gradient of {name}": g for name, g in zip(names, gradients[1:]) if g is not None})
    return {name: tensor.detach().double() for name, tensor in found.items()}


def distances(name, length, options):
    torch.manual_seed(length)
    layer = PRIMITIVES[name].build(options.width, length).to(options.device)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(held(parameter))
    x, grad_output = (held(torch.randn(options.batch, length, options.width, device=options.device)) for _ in range(2))
    exact = tensors_of(copy.deepcopy(layer).double(), x.double(), grad_output.double(), False)
    found = tensors_of(layer, x, grad_output, True)
    for key, expected in exact.items():
        norm = expected.norm().item()
        if norm > 0:
            yield (found[key] - expected).norm().item() / norm, f"{key}, length {length}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--primitives", nargs="+", default=list(PRIMITIVES), choices=list(PRIMITIVES), metavar="NAME")
    parser.add_argument("--lengths", nargs="+", type=int, default=[2, 31, 64, 127, 257, 1021], metavar="L")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    Quickest.search = False
    print("| primitive | largest distance | of |\n|---|---|---|", flush=True)
    for name in options.primitives:
        try:
            worst, where = max(d for length in options.lengths for d in distances(name, length, options))
            print(f"| {name} | {worst:.4f} | {where} |", flush=True)
        except (RuntimeError, TypeError) as error:
            print(f"| {name} |  | {type(error).__name__}: {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()
