"""The generic path: any module over tasks, by `torch.vmap` where that is right, else by a loop.

The first call of each part runs two tasks both ways, with a second derivative, and keeps vmap only where
output and gradients agree: in float64 where float32 says no, which may be rounding at a kink. Derivatives are
always taken outside of vmap: taken inside of it, torch's second derivative of an affine norm is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metabench.errors import Invalid


class Generic:
    """Runs a module for each task with the task's own weights, each of its parts by "vmap" or "loop".

    ways: by part, which of them its first run has shown to be right.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.ways: dict[str, str] = {}

    @property
    def path(self) -> str:
        """Return "vmap"; "loop" where a part needs it; "undecided" before the first run."""
        return max(self.ways.values(), key=("vmap", "loop").index, default="undecided")

    def __call__(self, x: Tensor, own: Mapping[str, Tensor], part: str) -> Tensor:
        """Return outputs [T, n, …] for x [T, n, …] and own weights [T, …] by name; see `Lifted`."""
        module = self.module if part == "all" else self.module.get_submodule(part)
        prefix = "" if part == "all" else part + "."
        weights = {name.removeprefix(prefix): w for name, w in own.items() if name.startswith(prefix)}
        if part not in self.ways:
            self.ways[part] = _decide(module, x, weights)
        return (_mapped if self.ways[part] == "vmap" else _looped)(module, x, weights)


Way = Callable[[nn.Module, Tensor, Mapping[str, Tensor]], Tensor]


def _mapped(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    def run(weights: Mapping[str, Tensor], task: Tensor) -> Tensor:
        return functional_call(module, dict(weights), (task,))  # type: ignore[no-any-return]

    result: Tensor = torch.vmap(run)(dict(own), x)
    return result


def _looped(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(
        [functional_call(module, {n: w[t] for n, w in own.items()}, (task,)) for t, task in enumerate(x)]
    )


def _decide(module: nn.Module, x: Tensor, own: Mapping[str, Tensor]) -> str:
    """Return which way is right; raise Invalid for a module whose result neither can repeat."""
    x = _two(x.detach())
    weights = {n: p.expand(2, *p.shape) for n, p in module.named_parameters()}
    weights |= {n: _two(w) for n, w in own.items()}
    _refuse_state(module, x, weights)
    by_loop = _derivatives(_looped, module, x, weights)
    try:
        by_map = _derivatives(_mapped, module, x, weights)
    except Exception:  # vmap refuses data-dependent code in many ways
        return "loop"
    return "vmap" if _agree(by_map, by_loop) or _agree_in_float64(module, x, weights) else "loop"


def _agree_in_float64(module: nn.Module, x: Tensor, weights: Mapping[str, Tensor]) -> bool:
    """Whether both ways agree on a copy in float64; False where module or device cannot compute in it.

    In float32 rounding alone may divide them by any amount: an input of a ReLU or a pooling that is closer
    to the kink than rounding lands on the other side of it, on one processor and not on another.
    """
    if x.dtype == torch.float64:
        return False
    try:
        double = copy.deepcopy(module).double()
        exact = x.double() if x.is_floating_point() else x
        own = {name: w.double() if w.is_floating_point() else w for name, w in weights.items()}
        return _agree(*(_derivatives(way, double, exact, own) for way in (_mapped, _looped)))
    except Exception:  # a module that makes float32 tensors of its own refuses float64 in many ways
        return False


def _two(x: Tensor) -> Tensor:
    """Return the first two tasks; a single task twice."""
    return x[:2] if len(x) > 1 else x.expand(2, *x.shape[1:])


def _refuse_state(module: nn.Module, x: Tensor, weights: Mapping[str, Tensor]) -> None:
    """Raise Invalid for a module that changes its own state, or whose second run differs from its first."""
    name = type(module).__name__
    before = {n: b.clone() for n, b in module.named_buffers()}
    rng_states = _random_states(x)
    with torch.no_grad():
        first, second = (_looped(module, x, weights) for _ in range(2))
    for buffer_name, buffer in module.named_buffers():
        if not torch.equal(buffer, before[buffer_name]):
            with torch.no_grad():
                for n, b in module.named_buffers():
                    b.copy_(before[n])
            raise Invalid(
                f"{name} changes its buffer {buffer_name!r} as it runs: the result would depend on "
                "the order of the tasks; use a layer without state"
            )
    drew = any(not torch.equal(a, b) for a, b in zip(rng_states, _random_states(x), strict=True))
    if drew or not _agree([[first]], [[second]]):
        raise Invalid(
            f"{name} has another output at each run, as with dropout: the result would depend on how tasks "
            "are shared out to chunks and ranks; build it without randomness (dropout 0)"
        )


def _random_states(x: Tensor) -> list[Tensor]:
    """Return the states of torch's own RNGs that the module could draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(x.device)] if x.is_cuda else states


def _agree(groups: Iterable[Sequence[Tensor]], others: Iterable[Sequence[Tensor]]) -> bool:
    """Return whether groups of tensors are equal up to rounding, relative to a group's largest element."""
    return all(
        float((a - b).abs().max()) <= (1e-9 if a.dtype == torch.float64 else 1e-3) * largest
        for group, other in zip(groups, others, strict=True)
        for largest in [max(float(b.abs().max()) for b in other)]
        for a, b in zip(group, other, strict=True)
    )


def _derivatives(
    way: Way, module: nn.Module, x: Tensor, weights: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the output, and the gradient and gradient of the gradient's square of a smooth function of it.

    With respect to weights and input. Raises Invalid where torch has no such derivatives.
    """
    with torch.enable_grad():
        own = {n: w.detach().clone().requires_grad_() for n, w in weights.items()}
        inputs = x.clone().requires_grad_(x.is_floating_point())
        leaves = [leaf for leaf in (inputs, *own.values()) if leaf.requires_grad]
        output = way(module, inputs, own)
        factors = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device)
        loss = (output.flatten() * factors).sum() + output.square().mean()
        try:
            first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
            # `backward` visits nodes that do nothing but refuse; `grad` skips them without a warning
            torch.stack([g.square().sum() for g in first]).sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise Invalid(
                f"{type(module).__name__} cannot be differentiated twice, as learning from gradient steps "
                f"needs ({str(error).splitlines()[0]}); use operations with a second derivative"
            ) from error
    second = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return [output.detach()], [g.detach() for g in first], second
