"""Modes of running a meta-step: eagerly, compiled as a whole, or captured in a CUDA graph.

The whole of it is compiled or captured, inner and outer gradients together: a compiled loss that is
differentiated outside gives the first-order gradient without a warning.
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
    eagerly.
    """

    def __init__(self, mode: str, parameters: Sequence[Tensor]) -> None:
        others = [parameter.device for parameter in parameters if parameter.device.type != "cuda"]
        if mode == "cuda-graph" and others:
            raise Skip(f"execution 'cuda-graph' needs a CUDA device; this cell runs on {others[0]}")
        self.mode = mode
        self.parameters = list(parameters)
        self._prepared: dict[Hashable, Runner] = {}

    def __call__(
        self, losses: Losses, episodes: Episodes, phase: Hashable, divisor: int = 1
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the losses [T], and for each parameter the gradient of their sum divided by `divisor`.

        The gradients of a captured step are valid until the next call.
        """
        flat = _flat(episodes)
        runner = self._runner(losses, divisor)
        if self.mode != "eager" and phase is not None:
            key = (phase, divisor, *((tensor.shape, tensor.dtype) for tensor in flat))
            if key not in self._prepared:
                prepare = _compiled if self.mode == "compiled" else _captured
                self._prepared[key] = prepare(runner, flat)
            runner = self._prepared[key]
        values, *gradients = runner(*flat)
        return values, gradients

    def _runner(self, losses: Losses, divisor: int) -> Runner:
        def run(*flat: Tensor) -> Sequence[Tensor]:
            # Backward passes run in this thread, where a tracer and a capture see them; for a GPU, autograd
            # has threads of its own otherwise.
            with torch.enable_grad(), torch.autograd.set_multithreading_enabled(False):
                values = losses(_episodes(flat))
                gradients = torch.autograd.grad(values.sum(), self.parameters, materialize_grads=True)
            # in torch 2.9 the zeros of a parameter that takes no part require a gradient themselves
            constants = [gradient.detach() for gradient in gradients]
            if divisor > 1 and constants:
                constants = list(torch._foreach_div(constants, divisor))
            return [values.detach(), *constants]

        return run


def _flat(episodes: Episodes) -> Flat:
    return (*episodes.support, *episodes.query, episodes.classes, episodes.index)


def _episodes(flat: Flat) -> Episodes:
    return Episodes(Examples(*flat[:2]), Examples(*flat[2:4]), *flat[4:])


def _compiled(run: Runner, flat: Flat) -> Runner:
    """Trace the step down to single operations, first and second derivatives included; compile these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, which no user can act on
        graph = make_fx(run)(*flat)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        compiled: Any = torch.compile(graph, fullgraph=True, dynamic=False)

        def call(*tensors: Tensor) -> Sequence[Tensor]:
            with torch.no_grad():
                result: Sequence[Tensor] = compiled(*tensors)
            return result

        call(*flat)
    return call


class Replay:
    """A captured step: inputs are copied to where it reads, and results lie where it writes.

    Few operations run outside of it: one copy for the inputs of each type, and one of the losses.
    """

    def __init__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], replay: Callable[[], object]
    ) -> None:
        self.inputs, self.outputs, self.replay = list(inputs), outputs, replay

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Return the losses, and gradients that are valid until the next call."""
        for dtype in {tensor.dtype for tensor in tensors}:
            pairs = [
                (static, tensor)
                for static, tensor in zip(self.inputs, tensors, strict=True)
                if tensor.dtype == dtype and tensor.numel()
            ]
            if pairs:
                torch._foreach_copy_([static for static, _ in pairs], [tensor for _, tensor in pairs])
        self.replay()
        losses, *gradients = self.outputs
        return [losses.clone(), *gradients]


def _captured(run: Runner, flat: Flat) -> Runner:
    """Return the step as a CUDA graph."""
    inputs = [tensor.clone() for tensor in flat]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch does not type it
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP_RUNS):
            run(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run(*inputs)
    return Replay(inputs, outputs, graph.replay)
