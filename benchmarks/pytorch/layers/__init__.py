# Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
"""The library's primitives in eager PyTorch, with the same formulas, options and parameter names."""
