# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Training steps of every primitive, ours and eager PyTorch's in turn, as a table in Markdown.

A mixer X is timed as X, SwiGLU, X, SwiGLU; a channel mixer as attention, X, attention, X. Both sides do the same number
of tokens per step on the same number of threads.
"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the built primitive_steps")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--facts", required=True, help="file whose text opens the report: machine, commit, compiler")
    parser.add_argument("--output", required=True, help="Markdown file to write")
    parser.add_argument("--primitives", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 1024], metavar="L")
    parser.add_argument("--tokens", type=int, default=128 * 128, help="per step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args(arguments)


def json_lines(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"compare_primitives.py: {' '.join(command)} ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main(arguments):
    o = parse(arguments)
    listed = subprocess.run([o.python, f"{HERE}/primitives.py", "--list"], stdout=subprocess.PIPE, text=True, check=True)
    stacks = dict(line.split() for line in listed.stdout.splitlines())
    unknown = [name for name in o.primitives or [] if name not in stacks]
    if unknown:
        sys.exit(f"compare_primitives.py: no primitive is called '{unknown[0]}'; known are {', '.join(stacks)}")
    counts = ["--tokens", str(o.tokens), "--threads", str(o.threads), "--repeat", str(o.repeat)]
    rows = []
    for name in o.primitives or stacks:
        for length in o.lengths:
            ours = json_lines([o.program, stacks[name], "--lengths", str(length), *counts])[0]
            theirs = json_lines([o.python, f"{HERE}/primitives.py", "--primitives", name, "--lengths", str(length), *counts])[0]
            rows.append((name, stacks[name], length, ours, theirs))
            print(f"{stacks[name]:20} L {length:5}  {ours['milliseconds']:8.1f} ms  PyTorch "
                  f"{theirs.get('milliseconds', float('nan')):8.1f} ms", file=sys.stderr, flush=True)
    base = {length: ours["milliseconds"] for name, _, length, ours, _ in rows if name == "mh-attention"}
    with open(o.facts, encoding="utf-8") as file:
        facts = file.read()
    lines = [f"# Training steps of every primitive on the CPU\n\n{facts}\n"
             f"One step of a four-layer model of width 128 on {o.tokens} tokens, float32, {o.threads} threads; medians of "
             f"{o.repeat} steps. `rel.` is our time over that of attention + SwiGLU at the same length; `PyTorch / ours` "
             "is how many times longer eager PyTorch takes, in the quickest form of the operation it was given.\n\n",
             "| primitive | stack | length | ours, ms | rel. | PyTorch, ms | PyTorch / ours | peak, ours | peak, PyTorch |\n",
             "|---|---|---|---|---|---|---|---|---|\n"]
    for name, stack, length, ours, theirs in rows:
        relative = f"{ours['milliseconds'] / base[length]:.2f}" if length in base else ""
        time = theirs.get("milliseconds")
        peak = theirs.get("peak_memory")
        slower = f"{time / ours['milliseconds']:.1f}" if time else ""
        cells = [name, stack, length, f"{ours['milliseconds']:.0f}", relative,
                 f"{time:.0f}" if time else theirs.get("skipped", ""), slower,
                 f"{ours['peak_memory'] / 2**20:.0f} MiB", f"{peak / 2**20:.0f} MiB" if peak else ""]
        lines.append("| " + " | ".join(map(str, cells)) + " |\n")
    temporary = o.output + ".part"
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(lines)
    os.replace(temporary, o.output)


if __name__ == "__main__":
    main(sys.argv[1:])
