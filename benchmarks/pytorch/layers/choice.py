# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Several ways to compute the same: the quickest on the case at hand is used.

Which form of an operation is the quickest in eager PyTorch depends on shapes, machine and version. Instead of settling
that by hand, an operation is given in all forms that a careful author would consider, and timed once.
"""

import time

import torch


def compiling():
    """Whether torch.compile is tracing. PyTorch 1 has no such thing."""
    compiler = getattr(torch, "compiler", None)
    return compiler is not None and hasattr(compiler, "is_compiling") and compiler.is_compiling()


class Quickest:
    """The ways to compute one operation, by name. The first call with given shapes times them all, forward and
    backward, and keeps the quickest for these shapes. The first way is the literature's."""

    search = True  # False: always the first way
    chosen = {}  # (operation, shapes ...): name of the way

    def __init__(self, operation, compiled=None, **ways):
        self.operation, self.ways = operation, ways
        self.first = self.latest = next(iter(ways))
        self.compiled = compiled  # the way that torch.compile sees; None: the one used last without it

    def __call__(self, *arguments):
        if compiling():
            return self.ways[self.compiled or self.latest](*arguments)
        key = (self.operation, *(tuple(a.shape) if torch.is_tensor(a) else a for a in arguments))
        if key not in self.chosen:
            self.chosen[key] = self.first if not self.search else min(
                self.ways, key=lambda name: self.seconds(self.ways[name], arguments))
        self.latest = self.chosen[key]
        return self.ways[self.latest](*arguments)

    @staticmethod
    def seconds(way, arguments):
        """The least time of three, after one to warm up; infinite for a way that runs out of memory."""
        taken = []
        for _ in range(4):
            leaves = [a.detach().requires_grad_() if torch.is_tensor(a) else a for a in arguments]
            start = now(arguments[0].device)
            try:
                with torch.enable_grad():
                    result = way(*leaves)
                    (result[0] if isinstance(result, tuple) else result).float().sum().backward()
            except RuntimeError as error:
                if "memory" not in str(error):
                    raise
                return float("inf")
            taken.append(now(arguments[0].device) - start)
        return min(taken[1:])


def now(device):
    """Seconds, once everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ways_in_use():
    """Operation: names of the ways that were chosen."""
    ways = {}
    for (operation, *_), way in Quickest.chosen.items():
        ways.setdefault(operation, set()).add(way)
    return {operation: ", ".join(sorted(names)) for operation, names in sorted(ways.items())}
