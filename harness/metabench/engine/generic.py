"""The generic path: any module over tasks, by `torch.vmap` where that is right, else by a loop.

The first call runs the first two tasks both ways, with a second derivative, and keeps vmap only where
output and gradients agree. Derivatives are always taken outside of vmap: taken inside of it, torch's
second derivative of an affine norm is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metabench.errors import Invalid


class Generic:
    """A module that is run for each task with the task's own weights, by "vmap" or "loop"."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.path = "undecided"

    def __call__(self, x: Tensor, own: Mapping[str, Tensor], part: str) -> Tensor:
        """Outputs [T, n, …] for x [T, n, …] and own weights [T, …] by name; see `Lifted`."""
        module = self.module if part == "all" else self.module.get_submodule(part)
        prefix = "" if part == "all" else part + "."
        given = {name.removeprefix(prefix): w for name, w in own.items() if name.startswith(prefix)}
        if self.path == "undecided":
            self.path = _decide(module, x, given)
        return (_mapped if self.path == "vmap" else _looped)(module, x, given)


Way = Callable[[nn.Module, Tensor, Mapping[str, Tensor]], Tensor]


def _mapped(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    def one(weights: Mapping[str, Tensor], task: Tensor) -> Tensor:
        return functional_call(module, dict(weights), (task,))  # type: ignore[no-any-return]

    result: Tensor = torch.vmap(one)(dict(own), x)
    return result


def _looped(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(
        [functional_call(module, {n: w[t] for n, w in own.items()}, (task,)) for t, task in enumerate(x)]
    )


def _decide(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> str:
    """The way that is right here; raises Invalid for a module that changes its own state as it runs."""
    x = x[:2].detach()
    weights = {n: p.expand(2, *p.shape) for n, p in module.named_parameters()} | {
        n: w[:2] for n, w in own.items()
    }
    before = {n: b.clone() for n, b in module.named_buffers()}
    by_loop = _derivatives(_looped, module, x, weights)
    for name, buffer in module.named_buffers():
        if not torch.equal(buffer, before[name]):
            with torch.no_grad():
                buffer.copy_(before[name])
            raise Invalid(
                f"{type(module).__name__} changes its buffer {name!r} as it runs: the result would depend on "
                "the order of the tasks; use a layer without state"
            )
    try:
        by_map = _derivatives(_mapped, module, x, weights)
    except Exception:  # vmap refuses data-dependent code and random layers in many ways
        return "loop"
    tolerance = 1e-9 if x.dtype == torch.float64 else 1e-3
    agree = all(
        (a - b).abs().max() <= tolerance * max(b.abs().max() for b in group)
        for one, group in zip(by_map, by_loop, strict=True)
        for a, b in zip(one, group, strict=True)
    )
    return "vmap" if agree else "loop"


def _derivatives(
    way: Way, module: nn.Module, x: Tensor, weights: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Output, gradient and gradient of the gradient's square, of a smooth function of the output."""
    with torch.enable_grad():
        own = {n: w.detach().clone().requires_grad_() for n, w in weights.items()}
        leaves = list(own.values())
        output = way(module, x, own)
        slope = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device)
        loss = (output.flatten() * slope).sum() + output.square().mean()
        first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        total = torch.stack([g.square().sum() for g in first]).sum()
        second = torch.autograd.grad(total, leaves, materialize_grads=True)
    return [output.detach()], [g.detach() for g in first], list(second)
