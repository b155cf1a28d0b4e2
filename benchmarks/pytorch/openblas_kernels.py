# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Prints the kernels of OpenBLAS (a value of OPENBLAS_CORETYPE) with which PyTorch multiplies quickest on this machine,
or nothing where OpenBLAS's own choice is as quick.

An OpenBLAS older than the processor takes it for one from 2004 and multiplies at a fifth of the speed, which would be
unfair to PyTorch.
"""

import os
import subprocess
import sys

CANDIDATES = ("Haswell", "SkylakeX", "Cooperlake", "SapphireRapids", "Zen")
MEASURE = """
import time
import torch
torch.set_num_threads(1)
a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
least = float("inf")
for _ in range(30):
    begin = time.perf_counter()
    for _ in range(3):
        a @ b
    least = min(least, time.perf_counter() - begin)
print(least)
"""


def seconds(kernels):
    environment = dict(os.environ)
    if kernels:
        environment["OPENBLAS_CORETYPE"] = kernels
    process = subprocess.run([sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True)
    # Kernels that the processor does not have end the process.
    return float(process.stdout) if process.returncode == 0 else float("inf")


def main():
    if os.environ.get("OPENBLAS_CORETYPE"):
        print(os.environ["OPENBLAS_CORETYPE"])
        return
    taken = {kernels: seconds(kernels) for kernels in CANDIDATES}
    quickest = min(taken, key=taken.get)
    if taken[quickest] < 0.9 * seconds(""):
        print(quickest)


if __name__ == "__main__":
    main()
