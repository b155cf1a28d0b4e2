# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Adds up what ncu measured (--csv, gpu__time_duration.sum), kernel by kernel."""

import collections
import csv
import re
import sys


def short(name):
    name = re.sub(r"\(.*", "", name)
    name = re.sub(r"mad::|cuda::|void |_detail", "", name)
    return name[:110]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [line for line in file if line.startswith('"')]
    times, counts = collections.Counter(), collections.Counter()
    for row in csv.DictReader(lines):
        if row["Metric Name"] != "gpu__time_duration.sum":
            continue
        unit = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "nsecond": 1e-3, "usecond": 1.0}[row["Metric Unit"]]
        name = short(row["Kernel Name"])
        times[name] += float(row["Metric Value"].replace(",", "")) * unit
        counts[name] += 1
    print(f"{sum(times.values()):9.1f} us in {sum(counts.values())} kernels")
    for name, time in times.most_common(28):
        print(f"{time:9.1f} us  {counts[name]:3d} x  {name}")


if __name__ == "__main__":
    main()
