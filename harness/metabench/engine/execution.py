"""Ways to run a meta-step: as it is written, compiled as a whole, or captured in a CUDA graph.

The whole of it is compiled or captured, inner and outer gradients together: a compiled loss that is
differentiated outside gives the first-order gradient without a word.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from metabench.contracts import Episodes, Examples
from metabench.errors import Skip

EXECUTIONS = ("eager", "compiled", "cuda-graph")
EXECUTION_HELP = (
    "how a meta-step runs: 'eager'; 'compiled' as a whole (seconds to minutes once, a C++ compiler is "
    "needed on the CPU); 'cuda-graph', captured once and replayed (CUDA only)"
)
WARMUP_RUNS = 3  # before a capture, as torch asks for: libraries set themselves up in the first runs

Losses = Callable[[Episodes], Tensor]
Flat = tuple[Tensor, ...]
Runner = Callable[..., Sequence[Tensor]]


class Execution:
    """Runs a meta-step for episodes; `phase` names what else the losses depend on.

    A compiled or captured step is kept for each phase and shape; phase None (changes at every step) runs
    as it is written.
    """

    def __init__(self, way: str, parameters: Sequence[Tensor]) -> None:
        device = parameters[0].device
        if way == "cuda-graph" and device.type != "cuda":
            raise Skip(f"execution 'cuda-graph' needs a CUDA device; this cell runs on {device}")
        self.way = way
        self.parameters = list(parameters)
        self._kept: dict[Hashable, Runner] = {}

    def __call__(
        self, losses: Losses, episodes: Episodes, phase: Hashable
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The losses [T] and the gradient of their sum for each parameter."""
        flat = _flat(episodes)
        if self.way == "eager" or phase is None:
            found = self._gradient(losses)(*flat)
        else:
            key = (phase, *((t.shape, t.dtype) for t in flat))
            if key not in self._kept:
                prepare = _compiled if self.way == "compiled" else _captured
                self._kept[key] = prepare(self._gradient(losses), flat)
            found = self._kept[key](*flat)
        return found[0], found[1:]

    def _gradient(self, losses: Losses) -> Runner:
        def run(*flat: Tensor) -> Sequence[Tensor]:
            with torch.enable_grad():
                each = losses(_episodes(flat))
                found = torch.autograd.grad(each.sum(), self.parameters, materialize_grads=True)
            # in torch 2.9 the zeros of a parameter that takes no part require a gradient themselves
            return [each.detach(), *(one.detach() for one in found)]

        return run


def _flat(episodes: Episodes) -> Flat:
    return (*episodes.support, *episodes.query, episodes.classes, episodes.index)


def _episodes(flat: Flat) -> Episodes:
    return Episodes(Examples(*flat[:2]), Examples(*flat[2:4]), *flat[4:])


def _compiled(run: Runner, flat: Flat) -> Runner:
    """The step traced down to single operations, first and second derivatives included, then compiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, which no user can act on
        graph = make_fx(run)(*flat)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        compiled: Any = torch.compile(graph, fullgraph=True, dynamic=False)

        def call(*given: Tensor) -> Sequence[Tensor]:
            with torch.no_grad():
                result: Sequence[Tensor] = compiled(*given)
            return result

        call(*flat)
    return call


def _captured(run: Runner, flat: Flat) -> Runner:
    """The step in one CUDA graph: inputs are copied to where it reads, its results lie where it writes.

    A result is valid until the next call.
    """
    inputs = [t.clone() for t in flat]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch does not type it
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP_RUNS):
            run(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run(*inputs)

    def call(*given: Tensor) -> Sequence[Tensor]:
        for held, one in zip(inputs, given, strict=True):
            held.copy_(one)
        graph.replay()
        return outputs

    return call
