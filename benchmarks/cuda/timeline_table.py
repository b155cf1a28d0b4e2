# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Prints the kernels of one training step as they ran, from a file that timeline.cpp wrote: branch of the graph, start and
duration in us, grid, threads, registers, KiB of shared memory, name. Branches are numbered as they appear."""

import argparse
import collections
import re
import subprocess
import sys

Kernel = collections.namedtuple("Kernel", "stream start end grid threads registers shared name")


def read(path):
    with open(path, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t", 7) for line in file]
    if not rows:
        sys.exit(f"timeline_table.py: {path} has no kernels; did the program run on a GPU?")
    names = subprocess.run(["c++filt"], input="\n".join(row[7] for row in rows), text=True, capture_output=True, check=True)
    kernels = [Kernel(row[0], int(row[1]), int(row[2]), row[3], row[4], row[5], int(row[6]), short(name))
               for row, name in zip(rows, names.stdout.splitlines())]
    return sorted(kernels, key=lambda k: k.start)


def short(name):
    name = re.sub(r"\(.*", "", name)
    return re.sub(r"mad::|cuda::|void |_detail", "", name)


def last_step(kernels):
    """From the last embedding behind which the optimiser comes, or the choice of a batch before it, to the optimiser."""
    end = max((i for i, k in enumerate(kernels) if "optimizer::update" in k.name), default=None)
    if end is None:
        sys.exit("timeline_table.py: there is no training step in the file")
    begin = max(i for i in range(end) if "embedding::forward" in kernels[i].name)
    begin = max((i for i in range(max(begin - 4, 0), begin) if "batch::select" in kernels[i].name), default=begin)
    return kernels[begin:end + 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--width", type=int, default=80, help="letters of a name")
    o = parser.parse_args()
    step = last_step(read(o.file))
    branches = {}
    for k in step:
        branch = branches.setdefault(k.stream, len(branches))
        print(f"{branch:2d} {(k.start - step[0].start) / 1e3:9.1f} {(k.end - k.start) / 1e3:8.1f}  {k.grid:12s} {k.threads:>5s} "
              f"{k.registers:>4s} {k.shared // 1024:4d}  {k.name[:o.width]}")
    busy = sum(k.end - k.start for k in step) / 1e3
    print(f"{(max(k.end for k in step) - step[0].start) / 1e3:.1f} us from begin to end, {busy:.1f} us of {len(step)} kernels")


if __name__ == "__main__":
    main()
