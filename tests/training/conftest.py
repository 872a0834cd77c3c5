"""Tests run beside servers and other tests: one thread each, and none that spins while it waits."""

import training  # noqa: F401, I001  (before torch: see its docstring)
import torch

torch.set_num_threads(1)
