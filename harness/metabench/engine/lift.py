"""Lifts an ordinary module over tasks: one call runs it for every task, with the task's own weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

Part = Literal["all", "features", "head"]


class Lifted:
    """A module that takes a leading task axis.

    path: how it runs, e.g. "batched" or "loop"; batch_statistics: whether an output depends on the
    other examples of its task (batch norm without running statistics).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.path = "loop"
        self.batch_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())

    def __call__(
        self, x: Tensor, parameters: Mapping[str, Tensor] | None = None, part: Part = "all"
    ) -> Tensor:
        """Outputs [T, n, …] for x [T, n, *input].

        parameters: [T, …] per name of `named_parameters()`, each task's own weights; a name that is
        absent, or None for all of them, means the module's weights, shared by all tasks. Each task has
        its own normalisation statistics either way. part: run the whole module, its `.features`, or its
        `.head` (whose x is [T, n, d]).
        """
        module = self.module if part == "all" else self.module.get_submodule(part)
        prefix = "" if part == "all" else part + "."
        given = {
            name.removeprefix(prefix): value
            for name, value in (parameters or {}).items()
            if name.startswith(prefix)
        }
        return torch.stack(
            [functional_call(module, {k: v[t] for k, v in given.items()}, (one,)) for t, one in enumerate(x)]
        )


def lift(module: nn.Module) -> Lifted:
    """The module lifted over tasks; raises `Invalid` where torch would give a wrong gradient."""
    return Lifted(module)
