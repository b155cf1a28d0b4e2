# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""Reads safetensors files: 8 bytes with the size of the header, the header in JSON, the numbers."""

import json

import numpy
import torch

NUMBER_TYPES = {"F32": numpy.float32, "F64": numpy.float64, "I64": numpy.int64, "U8": numpy.uint8}


def read_safetensors(path):
    """All tensors of a file by name, and its metadata, a dictionary of texts."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], NUMBER_TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors, metadata
