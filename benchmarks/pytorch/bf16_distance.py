# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""What bfloat16 costs in PyTorch: gradients of every layer under autocast, beside the same in double.

Parameters, inputs and the outputs' gradients are numbers that bfloat16 holds. Prints a table in Markdown: for every
primitive how far the gradients of all parameters together are away, relative to their norm, and the worst tensor, the
input's gradient among them, relative to its norm or a twentieth of all parameters' (as our tests of the device have
it); the largest over the lengths.
"""

import argparse
import copy
import math

import torch

from layers.choice import Quickest
from layers.model import PRIMITIVES


def held(tensor):
    return tensor.bfloat16().to(tensor.dtype)


def gradients_of(layer, x, grad_output, autocast):
    """Name: gradient, in double."""
    x = x.clone().requires_grad_()
    names, leaves = zip(*layer.named_parameters())
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=autocast):
        output = layer(x)
    gradients = torch.autograd.grad((output.to(grad_output.dtype) * grad_output).sum(), [*leaves, x], allow_unused=True)
    return {name: g.double() for name, g in zip((*names, "the input"), gradients) if g is not None}


def distances(name, length, seed, options):
    """Of all parameters together, and of the worst tensor; both with where they were found."""
    torch.manual_seed(1000 * seed + length)
    layer = PRIMITIVES[name].build(options.width, length).to(options.device)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(2, *parameter.shape, device=options.device)  # as our tests have it: none stays at zero
            parameter.copy_(held(parameter * (1 + 0.1 * noise[0]) + 0.02 * noise[1]))
    x, grad_output = (held(torch.randn(options.batch, length, options.width, device=options.device)) for _ in range(2))
    exact = gradients_of(copy.deepcopy(layer).double(), x.double(), grad_output.double(), False)
    found = gradients_of(layer, x, grad_output, True)
    norm = {key: g.norm().item() for key, g in exact.items()}
    apart = {key: (found[key] - g).norm().item() for key, g in exact.items()}
    parameters = [key for key in exact if key != "the input"]
    whole = math.hypot(*(norm[key] for key in parameters))
    each = {key: apart[key] / max(norm[key], 0.05 * whole) for key in exact}
    worst = max(each, key=each.get)
    return ((math.hypot(*(apart[key] for key in parameters)) / whole, f"length {length}"),
            (each[worst], f"{worst}, length {length}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--primitives", nargs="+", default=list(PRIMITIVES), choices=list(PRIMITIVES), metavar="NAME")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 2, 31, 64, 127, 257, 1021], metavar="L")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many layers of each kind and length")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    Quickest.search = False
    print("| primitive | all parameters | | worst tensor | |\n|---|---|---|---|---|", flush=True)
    for name in options.primitives:
        try:
            both = [max(found) for found in zip(*(distances(name, length, seed, options)
                                                  for length in options.lengths for seed in range(options.seeds)))]
            print(f"| {name} | " + " | ".join(f"{value:.4f} | {where}" for value, where in both) + " |", flush=True)
        except (RuntimeError, TypeError) as error:
            print(f"| {name} |  |  |  | {type(error).__name__}: {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()
