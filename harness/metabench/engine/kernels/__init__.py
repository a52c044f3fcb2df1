"""Kernels of our own for networks whose tasks have weights of their own, on a CPU with a C++ compiler.

They are compiled at first use (`build`), loaded by `ctypes` (`binding`) and called as functions that can be
differentiated (`differentiable`). Without a compiler, or with METABENCH_KERNELS=0, the engine runs torch's
operations. `choice` also knows the GPU's kernels, of `metabench.engine.triton`.
"""

from metabench.engine.kernels.binding import Kernels, kernels_for, status
from metabench.engine.kernels.choice import layer_kernels
from metabench.engine.kernels.layers import LayerKernels

__all__ = ["Kernels", "LayerKernels", "kernels_for", "layer_kernels", "status"]
