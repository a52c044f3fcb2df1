"""Kernels of our own for networks whose tasks have weights of their own, on a CPU with a C++ compiler.

They are compiled at first use (`build`), loaded by `ctypes` (`binding`) and called as functions that can be
differentiated (`differentiable`). Without a compiler, or with METABENCH_KERNELS=0, the engine runs torch's
operations.
"""

from metabench.engine.kernels.binding import Kernels, kernels_for, status

__all__ = ["Kernels", "kernels_for", "status"]
