# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Times whole training steps (forward, loss, backward, AdamW) of a four-layer language model for every primitive, in
eager PyTorch. A mixer X is timed as X, SwiGLU, X, SwiGLU; a channel mixer as attention, X, attention, X; Mamba also as
four of its own (mamba-alone).

Prints a line of JSON for each primitive and length: the median time of a step in milliseconds, and the peak memory in
bytes (of the process on the CPU, of the tensors on a GPU) during the timed steps. Where an operation can be written in
several ways, each is timed once on the case at hand and the quickest is used ("ways" in the output).
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch

from layers.choice import Quickest, now, ways_in_use
from layers.model import IGNORED_TARGET, STACKS, LanguageModel, shorthand

VOCAB_SIZE = 16
COMPILED = {"compiled": "default", "graphs": "reduce-overhead"}  # our name of a mode: torch.compile's
EXAMPLES = """examples:
  primitives.py --list                                    names and shorthands
  primitives.py --primitives retnet mamba2 --lengths 128  two of them, quickly
  primitives.py > cpu.jsonl                               everything on 2 threads
  primitives.py --device cuda --dtype bf16 --compile      on a GPU, eager and compiled
"""


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the primitives' names and stacks, and end")
    parser.add_argument("--primitives", nargs="+", default=list(STACKS), metavar="NAME",
                        help="which to time (default: all)")
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 1024], metavar="L",
                        help="tokens per sequence (default: 128 1024)")
    parser.add_argument("--tokens", type=int, default=128 * 128,
                        help="tokens per step; the batch is tokens / length (default: 16384, a batch of 128 at length "
                             "128 and of 16 at length 1024)")
    parser.add_argument("--width", type=int, default=128, help="of the model (default: 128; 64 works for all)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default: 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bf16"),
                        help="bf16: mixed precision with autocast (default: float32, without TF32)")
    parser.add_argument("--compile", action="store_true",
                        help="time the model under torch.compile as well, by itself (compiled) and, on a GPU, replaying "
                             "CUDA graphs (graphs, its mode reduce-overhead); a case that cannot be compiled says why")
    parser.add_argument("--forms", default="quickest", choices=("quickest", "literature"),
                        help="literature: do not search, always use the form that the primitive's paper or the "
                             "reference uses (default: quickest)")
    parser.add_argument("--warm-up", type=int, default=2, metavar="N", help="steps before the timed ones (default: 2)")
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="timed steps (default: 7)")
    options = parser.parse_args(arguments)
    for name in options.primitives:
        if name not in STACKS:
            parser.error(f"no primitive is called '{name}'; known are {', '.join(STACKS)}")
    for key in ("tokens", "width", "threads", "repeat"):
        if getattr(options, key) < 1:
            parser.error(f"--{key} {getattr(options, key)}: at least 1 was expected")
    if min(options.lengths) < 2 or options.warm_up < 1:
        parser.error("lengths must be at least 2 and --warm-up at least 1: the first step chooses the quickest forms")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch sees no CUDA device; use --device cpu")
    return options


# Memory


def status_bytes(key):
    """A line of /proc/self/status, such as VmHWM, in bytes; 0 on systems that have no such file."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
    except OSError:
        return 0


def forget_peak(device):
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass  # then the peak includes the warm-up


def peak_memory(device):
    return torch.cuda.max_memory_allocated() if device == "cuda" else status_bytes("VmHWM")


# Time


class Training:
    """A model that learns to name the token before the current one, on one batch of random tokens."""

    def __init__(self, names, length, batch, options):
        torch.manual_seed(1)
        self.device, self.bf16 = torch.device(options.device), options.dtype == "bf16"
        self.model = LanguageModel(names, options.width, length, VOCAB_SIZE).to(self.device)
        self.loss = self.model.loss
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, weight_decay=0.1, foreach=True)
        self.inputs = torch.randint(VOCAB_SIZE, (batch, length))
        self.targets = self.inputs.roll(1, 1)
        self.targets[:, 0] = IGNORED_TARGET
        self.inputs, self.targets = self.inputs.to(self.device), self.targets.to(self.device)

    def step(self):
        """Takes a step; returns its milliseconds and the loss before it."""
        start = now(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.loss(self.inputs, self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return (now(self.device) - start) * 1e3, loss.item()


def measure(training, options, mode):
    start = time.perf_counter()
    for _ in range(max(options.warm_up, 3) if mode == "graphs" else options.warm_up):  # a graph is recorded in the second
        training.step()
    warm_up = time.perf_counter() - start
    forget_peak(options.device)
    taken, losses = zip(*(training.step() for _ in range(options.repeat)))
    return {"milliseconds": statistics.median(taken), "fastest_milliseconds": min(taken),
            "peak_memory": peak_memory(options.device), "warm_up_seconds": warm_up,
            "loss": losses[-1] if math.isfinite(losses[-1]) else None}


def measure_case(name, length, options):
    """Prints the lines of one primitive and length; returns whether the eager one could be measured."""
    names, batch = STACKS[name], max(1, options.tokens // length)
    facts = {"primitive": name, "stack": shorthand(names), "width": options.width, "length": length, "batch": batch,
             "threads": torch.get_num_threads(), "device": options.device, "dtype": options.dtype,
             "torch": torch.__version__}
    if options.device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    Quickest.search = options.forms == "quickest"
    Quickest.chosen.clear()
    eager = True
    compiled = [mode for mode in COMPILED if options.compile and (mode != "graphs" or options.device == "cuda")]
    for mode in ("eager", *compiled):
        try:
            training = Training(names, length, batch, options)
            facts["parameters"] = sum(p.numel() for p in training.model.parameters())
            if mode in COMPILED:
                if not hasattr(torch, "compile"):
                    raise RuntimeError("torch.compile came with PyTorch 2")
                getattr(torch, "_dynamo").reset()
                training.loss = torch.compile(training.model.loss, dynamic=False, mode=COMPILED[mode])
            result = measure(training, options, mode)
            if mode == "eager":
                result["ways"] = ways_in_use()
        except Exception as error:  # out of memory, or whatever a compiler may raise: the other cases still count
            result = {"skipped": " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])}
            eager = eager and mode != "eager"
        training = None
        print(json.dumps({**facts, "mode": mode, **result}), flush=True)
    return eager


def main():
    options = parse(None)
    if options.list:
        for name, names in STACKS.items():
            print(f"{name:28} {shorthand(names)}")
        return 0
    torch.set_num_threads(options.threads)
    cases = [(name, length) for length in options.lengths for name in options.primitives]
    if len(cases) == 1 or options.device == "cuda":
        done = [measure_case(name, length, options) for name, length in cases]
    else:  # a process for each, so that one's memory is not the other's
        done = []
        for name, length in cases:
            same = [f"--{key.replace('_', '-')}={value}" for key, value in vars(options).items()
                    if key not in ("primitives", "lengths", "compile", "list")]
            command = [sys.executable, os.path.abspath(__file__), "--primitives", name, "--lengths", str(length), *same]
            done.append(subprocess.run(command + ["--compile"] * options.compile).returncode == 0)
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
