# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Training steps of every primitive on one GPU, ours and PyTorch's in the same run, as a table in Markdown.

A mixer X is timed as X, SwiGLU, X, SwiGLU (Mamba also four times over: mamba-alone); a channel mixer as attention, X,
attention, X.
Both sides compute in bfloat16 with float32 parameters.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# What the floor assumes of the GPU: an H100's or H200's matrix products in bfloat16, and its memory.
PRODUCTS_PER_SECOND = 600e12
BYTES_PER_SECOND = 3e12
LAYERS, WIDTH = 4, 128
TOKENS_OF_EPOCH = 96 * 128 * 128  # that many steps at length 128, about as many as an epoch of the benchmark has


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="primitive_steps, built with CUDA")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch with CUDA")
    parser.add_argument("--facts", required=True, help="file whose text opens the report: machine, commit, command")
    parser.add_argument("--output", required=True, help="Markdown file to write")
    parser.add_argument("--primitives", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 1024], metavar="L")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--compiled", nargs="*", metavar="NAME",
                        help="primitives for which torch.compile is timed too, at the shortest length (default: all; "
                             "no name: none)")
    parser.add_argument("--compile-limit", type=int, default=120, metavar="SECONDS",
                        help="how long torch.compile may take for a primitive, twice (default: 120)")
    parser.add_argument("--runs", nargs="+", type=int, default=[1, 2, 4], metavar="N",
                        help="how many runs train side by side, at the shortest length")
    return parser.parse_args(arguments)


def json_lines(command, limit=None):
    """The lines of JSON that a command prints, within so many seconds."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            print(f"compare_on_gpu.py: {' '.join(command)} was stopped after {limit} s", file=sys.stderr)
    if process.returncode > 0:
        print(f"compare_on_gpu.py: {' '.join(command)} ended with status {process.returncode}", file=sys.stderr)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def ours(o, stacks, length, *options):
    steps = max(24, TOKENS_OF_EPOCH // (o.batch * length))
    lines = json_lines([o.program, *stacks, "--device", "cuda", "--lengths", str(length), "--tokens",
                        str(o.batch * length), "--steps", str(steps), *options])
    return {line["stack"]: line for line in lines}


def theirs(o, names, length, *options, limit=None):
    return json_lines([o.python, f"{HERE}/primitives.py", "--device", "cuda", "--dtype", "bf16", "--primitives", *names,
                       "--lengths", str(length), "--tokens", str(o.batch * length), *options], limit)


def floor_milliseconds(parameters, tokens):
    """The matrix products of all parameters forward and backward, and the residual stream read and written once per
    layer forward, and read twice and written once backward."""
    products = 6 * parameters * tokens / PRODUCTS_PER_SECOND
    traffic = 5 * LAYERS * tokens * WIDTH * 2 / BYTES_PER_SECOND
    return 1e3 * (products + traffic)


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def ratio(of, to):
    return number(of / to, 1) if of and to else ""


def mebibytes(value):
    return "" if value is None else f"{value / 2**20:.0f}"


def step_table(o, stacks, names, save):
    """The lines; our time and PyTorch's by primitive and length; PyTorch's peak memory at the last length by primitive.
    Saves the lines length by length."""
    lines = ["| primitive | stack | L | ours, ms | epoch, ms | PyTorch, ms | PyTorch / ours | floor, ms | floor / ours | "
             "ours, MiB | PyTorch, MiB |\n", "|---" * 11 + "|\n"]
    measured = {}
    for length in o.lengths:
        here = ours(o, [stacks[name] for name in names], length, "--repeat", "7")
        there = {line["primitive"]: line for line in theirs(o, names, length, "--repeat", "7")}
        for name in names:
            a, b = here.get(stacks[name], {}), there.get(name, {})
            time, eager = a.get("milliseconds"), b.get("milliseconds")
            measured[name, length] = (time, eager)
            floor = floor_milliseconds(b["parameters"], o.batch * length) if "parameters" in b else None
            cells = [name, stacks[name], length, number(time, 3), number(a.get("epoch_milliseconds"), 3),
                     number(eager), ratio(eager, time) or b.get("skipped", ""), number(floor),
                     number(floor / time) if time and floor else "", mebibytes(a.get("peak_memory")),
                     mebibytes(b.get("peak_memory"))]
            lines.append("| " + " | ".join(map(str, cells)) + " |\n")
            print(lines[-1], end="", file=sys.stderr, flush=True)
        save(lines)
    return lines, measured, {name: there[name].get("peak_memory") for name in there}


def micro_batch_table(o, stacks, names, peaks):
    length = o.lengths[-1]
    lines = ["| primitive | stack | L | ours, ms | ours, MiB | PyTorch, MiB | ours / PyTorch, memory |\n",
             "|---|---|---|---|---|---|---|\n"]
    found = ours(o, [stacks[name] for name in names], length, "--repeat", "3", "--micro-batch", str(micro_batch(o)))
    for name in names:
        here, peak = found.get(stacks[name], {}), peaks.get(name)
        memory = here.get("peak_memory")
        cells = [name, stacks[name], length, number(here.get("milliseconds"), 3), mebibytes(memory), mebibytes(peak),
                 number(memory / peak) if memory and peak else ""]
        lines.append("| " + " | ".join(map(str, cells)) + " |\n")
        print(lines[-1], end="", file=sys.stderr, flush=True)
    return lines


def micro_batch(o):
    return max(1, o.batch // 4)


def side_by_side_table(o, stacks):
    length = min(o.lengths)
    lines = ["| stack | L | " + " | ".join(f"{n} at once, steps/s" for n in o.runs) + " |\n",
             "|---|---|" + "---|" * len(o.runs) + "\n"]
    found = [ours(o, stacks, length, "--runs", str(n), "--repeat", "7") for n in o.runs]
    for stack in stacks:
        rates = [number(1e3 / f[stack]["epoch_milliseconds"], 0) if stack in f else "" for f in found]
        lines.append(f"| {stack} | {length} | " + " | ".join(rates) + " |\n")
        print(lines[-1], end="", file=sys.stderr, flush=True)
    return lines


def compiled_table(o, stacks, names, measured, save):
    """PyTorch's compiled modes. Compiling takes cores a minute or more, so it is done for several primitives side by side
    first; what that leaves in torch.compile's cache serves to time one after the other. Saves the lines as they come."""
    length = min(o.lengths)

    def compile_one(name):
        lines = theirs(o, [name], length, "--repeat", "1", "--compile", limit=o.compile_limit)
        return [name] if any(line["mode"] != "eager" and "milliseconds" in line for line in lines) else []

    lines = ["| primitive | stack | L | ours, ms | eager, ms | compiled, ms | graphs, ms | compiled / ours | graphs / ours "
             "|\n", "|---" * 9 + "|\n"]
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) * 3 // 4)) as pool:
        works = sum(pool.map(compile_one, names), [])
    for first in range(0, len(names), 4):
        some = [name for name in names[first:first + 4] if name in works]
        found = theirs(o, some, length, "--repeat", "7", "--compile", limit=o.compile_limit * len(some)) if some else []
        by_mode = {(line["primitive"], line["mode"]): line.get("milliseconds") for line in found}
        for name in names[first:first + 4]:
            time, eager = measured[name, length]
            modes = [by_mode.get((name, mode)) for mode in ("compiled", "graphs")]
            cells = [name, stacks[name], length, number(time, 3), number(eager), *map(number, modes),
                     *(ratio(mode, time) for mode in modes)]
            lines.append("| " + " | ".join(map(str, cells)) + " |\n")
            print(lines[-1], end="", file=sys.stderr, flush=True)
        save(lines)
    return lines


def main(arguments):
    o = parse(arguments)
    listed = subprocess.run([o.python, f"{HERE}/primitives.py", "--list"], stdout=subprocess.PIPE, text=True, check=True)
    stacks = dict(line.split() for line in listed.stdout.splitlines())
    unknown = [name for name in (o.primitives or []) + (o.compiled or []) if name not in stacks]
    if unknown:
        sys.exit(f"compare_on_gpu.py: no primitive is called '{unknown[0]}'; known are {', '.join(stacks)}")
    names = o.primitives or list(stacks)
    o.compiled = names if o.compiled is None else [name for name in o.compiled if name in names]
    with open(o.facts, encoding="utf-8") as file:
        facts = file.read()
    text = [f"# Training steps of every primitive on a GPU\n\n{facts}\n"
            f"One step (forward, loss, backward, AdamW) of a four-layer model of width {WIDTH}, batch {o.batch}, "
            "bfloat16. Ours: medians over replays of a CUDA graph of 8 steps, by the device's events, from the end of one "
            "replay to the end of the next; epoch: medians over epochs of 96 steps (24 at length 1024), per step, by the "
            "host's clock from the first launch to the last result. PyTorch: eager, medians of 7 steps, the quickest form of "
            "each operation. Floor: the matrix products of all parameters at "
            f"{PRODUCTS_PER_SECOND / 1e12:.0f} TFLOP/s and the residual stream at {BYTES_PER_SECOND / 1e12:.0f} TB/s. "
            "Memory: ours, everything on the device with the data; PyTorch's, its tensors' peak.\n\n"]

    def save(more):
        """Writes what there is by now; what is stopped loses nothing."""
        temporary = o.output + ".part"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(text + more)
        os.replace(temporary, o.output)

    lines, measured, peaks = step_table(o, stacks, names, save)
    text += lines
    text.append(f"\n## In micro-batches of {micro_batch(o)} sequences\n\nThe same steps with less memory: "
                "`mad train --micro-batch`.\n\n")
    text += micro_batch_table(o, stacks, names, peaks)
    save([])
    text.append("\n## Mamba four times over, and runs side by side\n\nSteps per second of all runs together.\n\n")
    text += side_by_side_table(o, ["mA-Sg-mA-Sg", "H-Sg-H-Sg", "Mb-Mb-Mb-Mb", "mH-Sg-mH-Sg"])
    save([])
    if o.compiled:
        text.append("\n## Beside torch.compile\n\ncompiled: torch.compile by itself; graphs: its mode reduce-overhead, which "
                    "replays CUDA graphs; both with AdamW by PyTorch's foreach. No number: it failed, or took more than "
                    f"{o.compile_limit} s to compile.\n\n")
        text += compiled_table(o, stacks, o.compiled, measured, save)
        save([])


if __name__ == "__main__":
    main(sys.argv[1:])
