# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Runs training_step_benchmark and training_step.py in turn, step by step, on the same weights and data, and writes one
report. benchmarks/speed.sh calls it.

Two processes per case, each idle while the other works: A B A B ... The table shows medians; a ratio is the median of
the ratios of neighbouring steps. The losses of both sides must agree in every step before and while they are timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

STACKS = ("mA-Sg-mA-Sg", "H-Sg-H-Sg", "Mb-Mb-Mb-Mb", "H-mA-Sg-Mb")
TRAINING_STEP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "training_step.py")
WARM_UP = 2
TOLERANCE = 1e-4


class Side:
    """A process that takes a training step per line it is sent."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare.py: {' '.join(self.process.args)} ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(program, python, stack, width, length, batch, threads, rounds):
    sizes = ["--stack", stack, "--width", str(width), "--length", str(length), "--batch", str(batch)]
    with tempfile.TemporaryDirectory() as folder:
        case = os.path.join(folder, "case.safetensors")
        ours = Side([program, "--json", *sizes, "--threads", str(threads), "--write", case], threads)
        pairs = [(ours.step(), None)]
        theirs = Side([python, TRAINING_STEP, case, "--stack", stack, "--threads", str(threads)], threads)
        pairs[0] = (pairs[0][0], theirs.step())
        pairs += [(ours.step(), theirs.step()) for _ in range(WARM_UP - 1 + rounds)]
        ours.close()
        theirs.close()
    apart = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    if not apart < TOLERANCE:
        sys.exit(f"compare.py: {stack}, width {width}, length {length}: the losses of the two sides are {apart:g} apart, "
                 f"at most {TOLERANCE:g} was expected; they do not compute the same")
    pairs = pairs[WARM_UP:]
    result = {"stack": stack, "width": width, "length": length, "batch": batch, "threads": threads, "loss_apart": apart,
              "ways": pairs[-1][1]["ways"]}
    for time in ("milliseconds", "cpu_milliseconds"):
        result[time] = (statistics.median(a[time] for a, _ in pairs), statistics.median(b[time] for _, b in pairs),
                        statistics.median(b[time] / a[time] for a, b in pairs))
    return result


def measured(program, *options):
    done = subprocess.run([program, *options], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"


def report(arguments):
    cases = [(stack, width, length, max(2, arguments.tokens // length))
             for length in arguments.lengths for width in arguments.widths for stack in arguments.stacks]
    note = lambda text: print(text, file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    yield "# Training step on the CPU"
    yield ""
    with open(arguments.facts, encoding="utf-8") as facts:
        yield from facts.read().splitlines()
    yield f"* PyTorch: {pytorch(arguments.python)}"
    yield (f"* Load of the machine at the start: {load:.1f} on {os.cpu_count()} cores"
           + ("; **other jobs were running**, so read the CPU time and not the wall time" if load > 0.5 else ""))
    yield ""
    yield "## Against PyTorch"
    yield ""
    yield ("A step is forward, loss, backward and AdamW, float32, on the same weights and data; the ratio is PyTorch's time "
           "over ours. Medians of interleaved steps, "
           f"{arguments.rounds} each. Wall: time that passed, {arguments.threads} thread(s). CPU: time that was computed, on "
           "one thread, where waiting threads and other jobs count least.")
    yield ""
    rows = []
    ways = {}
    for stack, width, length, batch in cases:
        cells = [stack, width, length, batch]
        apart = 0
        results = {threads: compare(arguments.program, arguments.python, stack, width, length, batch, threads,
                                    arguments.rounds) for threads in {arguments.threads, 1}}
        for threads, time in ((arguments.threads, "milliseconds"), (1, "cpu_milliseconds")):
            ours, theirs, ratio = results[threads][time]
            note(f"{stack} {width} {length} threads {threads}: {ours:.1f} ms, PyTorch {theirs:.1f} ms, {ratio:.2f}")
            cells += [f"{ours:.0f}", f"{theirs:.0f}", f"**{ratio:.2f}**"]
            apart = max(apart, results[threads]["loss_apart"])
            for operation, way in results[threads]["ways"].items():
                ways.setdefault(operation, set()).add(way)
        rows.append([*cells, f"{apart:.0e}"])
    yield from table(("stack", "width", "length", "batch", "wall, ours, ms", "wall, PyTorch, ms", "ratio", "CPU, ours, ms",
                      "CPU, PyTorch, ms", "ratio", "losses apart"), rows)
    yield ""
    for operation, chosen in sorted(ways.items()):
        yield f"* PyTorch's {operation} was quickest as: {', '.join(f'`{way}`' for way in sorted(chosen))}"
    yield ""
    yield "## Share of the matrix products"
    yield ""
    yield ("Linear maps only, forward and backward. *Products*: the step's matrix products alone, at their shapes. "
           "*Square*: products of 1024 x 1024 matrices. All with our matrix product, CPU time per thread, in turn, medians.")
    yield ""
    rows = []
    for stack, width, length, batch in cases:
        m = measured(arguments.program, "--products", "--stack", stack, "--width", str(width), "--length", str(length),
                     "--batch", str(batch), "--threads", str(arguments.threads))
        note(f"{stack} {width} {length}: products")
        rows.append([stack, width, length, f"{m['step_milliseconds']:.0f}", f"{m['products_milliseconds']:.0f}",
                     f"{m['products_milliseconds'] / m['step_milliseconds']:.0%}", f"{m['products_gflop_per_second']:.0f}",
                     f"{m['square_gflop_per_second']:.0f}",
                     f"{m['products_gflop_per_second'] / m['square_gflop_per_second']:.0%}",
                     f"{m['step_gflop_per_second'] / m['square_gflop_per_second']:.0%}"])
    yield from table(("stack", "width", "length", "step, ms", "products, ms", "share", "products, GFLOP/s",
                      "square, GFLOP/s", "products / square", "whole step / square"), rows)
    yield ""
    yield "## Memory"
    yield ""
    yield ("Peak resident memory of the process (VmHWM) after three steps, program and data included. Data, losses and "
           "predictions are 16 bytes per token; nothing else may depend on the batch.")
    yield ""
    rows = []
    for stack in arguments.stacks:
        cells = [measured(arguments.program, "--memory", "--stack", stack, "--batch", batch) for batch in ("128", "512")]
        rows.append([stack, cells[0]["parameters"], *(f"{c['peak_mebibytes']:.1f}" for c in cells),
                     *(f"{c['working_mebibytes']:.1f}" for c in cells)])
    yield from table(("stack, width 128, length 128", "parameters", "peak, batch 128, MiB", "peak, batch 512, MiB",
                      "gradients and buffers, batch 128, MiB", "batch 512, MiB"), rows)


def pytorch(python):
    program = ("import torch; c = torch.__config__.show(); print(torch.__version__ + ', ' + "
               "('MKL' if torch.backends.mkl.is_available() else 'the system\\'s BLAS'))")
    return subprocess.run([python, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="training_step_benchmark")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--facts", required=True, help="lines on device, date, commit, compiler for the report")
    parser.add_argument("--output", required=True, help="the report, Markdown")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7, help="timed steps per side and case")
    parser.add_argument("--tokens", type=int, default=128 * 128, help="tokens per step; the batch is tokens / length")
    parser.add_argument("--stacks", nargs="+", default=STACKS, choices=STACKS)
    parser.add_argument("--widths", nargs="+", type=int, default=(128, 64))
    parser.add_argument("--lengths", nargs="+", type=int, default=(128, 1024))
    arguments = parser.parse_args()
    text = "\n".join(report(arguments)) + "\n"
    temporary = arguments.output + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, arguments.output)
    print(text, end="")


if __name__ == "__main__":
    main()
