# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Training steps of small language models in eager PyTorch on the CPU, float32: the other side of
benchmarks/training_step_benchmark.cpp, with the same formulas, weights, data and optimiser.

Reads weights and data from a safetensors file, then takes one step per line of standard input and answers with one
line of JSON: {"milliseconds": time of the step, "cpu_milliseconds": of all threads, "loss": before it}. Where an
operation can be written in several ways, each is timed once on the case at hand and the quickest is used.
"""

import argparse
import json
import sys
import time

import torch

from layers.choice import ways_in_use
from layers.model import BY_SHORTHAND, LanguageModel, load_parameters
from safetensors_file import read_safetensors

LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.1


class Case:
    """A model, its optimiser, and one batch of data."""

    def __init__(self, path, stack):
        tensors, _ = read_safetensors(path)
        self.inputs, self.targets = tensors.pop("inputs"), tensors.pop("targets")
        vocab_size, width = tensors["token_embeds.weight"].shape
        names = [BY_SHORTHAND[shorthand] for shorthand in stack.split("-")]
        self.model = LanguageModel(names, width, self.inputs.shape[1], vocab_size)
        load_parameters(self.model, tensors)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True)

    def step(self):
        loss = self.model.loss(self.inputs, self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def wall_and_cpu(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="safetensors file written by training_step_benchmark --json --write")
    parser.add_argument("--stack", required=True, help="layers, such as H-mA-Sg-Mb")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    unknown = [shorthand for shorthand in arguments.stack.split("-") if shorthand not in BY_SHORTHAND]
    if unknown:
        parser.error(f"no layer is called '{unknown[0]}'; known are {', '.join(BY_SHORTHAND)}")
    torch.set_num_threads(arguments.threads)
    case = Case(arguments.case, arguments.stack)
    for _ in sys.stdin:
        loss, wall, cpu = wall_and_cpu(case.step)
        print(json.dumps({"milliseconds": wall, "cpu_milliseconds": cpu, "loss": loss, "ways": ways_in_use()}),
              flush=True)


if __name__ == "__main__":
    main()
