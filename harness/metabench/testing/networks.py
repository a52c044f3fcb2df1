"""`check_network`: a module with features and a head, which the engine can run over many tasks at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metabench.contracts import Network
from metabench.device.device import Device
from metabench.engine.norms import is_fixed
from metabench.errors import Invalid
from metabench.learning.networks import WAY_IN
from metabench.testing.contract_error import ContractError, Subject, begin
from metabench.testing.pretended_device import check_no_strays

SHAPES = ((8,), (1, 28, 28), (3, 32, 32))
OUTPUTS = 5
CLOSE = 1e-7


def check_network(
    network: Network | type[Network], *, input_shapes: Sequence[tuple[int, ...]] = SHAPES
) -> None:
    """Check a network against its whole contract, in float64, for each of these shapes of an input.

    A shape may be refused with `metabench.Invalid`; at least one must fit.

    Raises ContractError with what is wrong and what to do; SkipTest where it cannot be used here.
    """
    network, subject = begin("network", network)
    refused = []
    for shape in input_shapes:
        try:
            with subject.doing(f"build({shape}, {OUTPUTS})", Invalid):
                module = build(network, shape, OUTPUTS)
        except Invalid as error:
            subject.require(
                bool(str(error).strip()), f"build({shape}, {OUTPUTS}) raises Invalid without a reason in it"
            )
            refused.append(f"{shape}: {error}")
            continue
        _check_parts(subject, network, module, shape)
        _check_randomness(subject, network, module, shape)
        _check_tasks(subject, module, shape)
        _check_places(subject, network, shape)
    if len(refused) == len(input_shapes):
        raise ContractError(
            f"{subject.title}: it refuses every input shape ({'; '.join(refused)}): name one that fits with "
            "check_network(…, input_shapes=[…])"
        )


def build(network: Network, shape: tuple[int, ...], outputs: int | None, seed: int = 0) -> nn.Module:
    """Build the module in float64, its weights sampled after this seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network.build(shape, outputs).double()


def _inputs(shape: tuple[int, ...], count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64)


def _check_parts(subject: Subject, network: Network, module: nn.Module, shape: tuple[int, ...]) -> None:
    for part in ("features", "head"):
        subject.require(
            isinstance(getattr(module, part, None), nn.Module),
            f"the module of build({shape}, {OUTPUTS}) has no .{part}: algorithms adapt or keep the parts; "
            f"{WAY_IN}",
        )
    x = _inputs(shape, 6)
    with subject.doing(f"a forward pass of 6 inputs {shape}"), torch.no_grad():
        features, out = module.get_submodule("features")(x), module(x)
        joined = module.get_submodule("head")(features)
    subject.require(
        features.dim() == 2 and len(features) == 6,
        f".features must return [batch, d] for 6 inputs {shape}, got {tuple(features.shape)}",
    )
    subject.require(
        tuple(out.shape) == (6, OUTPUTS),
        f"the module must return [batch, outputs] for 6 inputs {shape}, got {tuple(out.shape)}",
    )
    subject.require(bool(out.isfinite().all()), "the module returns values that are not finite")
    subject.require(
        torch.allclose(out, joined, atol=CLOSE),
        "the module's output must be .head(.features(x))",
    )
    with subject.doing(f"build({shape}, None)"):
        bare = build(network, shape, None)
    with torch.no_grad():
        whole, only_features = bare(x), bare.get_submodule("features")(x)
    unchanged = whole.shape == only_features.shape and torch.allclose(whole, only_features, atol=CLOSE)
    subject.require(
        unchanged and not list(bare.get_submodule("head").parameters()),
        "with outputs=None the head must be nn.Identity(), got one that changes the features",
    )
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    loss = module(x).square().sum()
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True) if trained else ()
    unused = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    subject.require(
        not unused,
        f"the parameters {', '.join(unused)} have no part in the output: leave them out of the module",
    )


def _check_randomness(subject: Subject, network: Network, module: nn.Module, shape: tuple[int, ...]) -> None:
    again, other = build(network, shape, OUTPUTS), build(network, shape, OUTPUTS, seed=1)
    weights, same, different = (list(built.parameters()) for built in (module, again, other))
    subject.require(
        all(torch.equal(a, b) for a, b in zip(weights, same, strict=True)),
        "two builds after the same torch.manual_seed have other weights: sample from torch's own RNG",
    )
    subject.require(
        _is_pretrained(module) or not all(torch.equal(a, b) for a, b in zip(weights, different, strict=True)),
        "two builds after different torch.manual_seed have the same weights: sample them from torch's own "
        "RNG, which the harness seeds",
    )


def _is_pretrained(module: nn.Module) -> bool:
    """Return whether a module brings what training here does not make: held statistics, frozen weights."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]
    return any(map(is_fixed, norms)) or not all(weight.requires_grad for weight in module.parameters())


def _check_tasks(subject: Subject, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Check that the engine's pass over tasks, with their own weights, equals a plain pass of each task."""
    from metabench.engine import expand_weights, lift

    x = torch.stack([_inputs(shape, 4), _inputs(shape, 4).flip(0) + 0.1])
    generator = torch.Generator().manual_seed(2)
    weights = {
        name: w.detach() + 0.01 * torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for name, w in expand_weights(module, 2).items()
    }
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    with torch.no_grad():
        first = module(x[0])
        subject.require(
            torch.allclose(module(x[0]), first, atol=CLOSE)
            and all(torch.equal(value, buffers[name]) for name, value in module.named_buffers()),
            "a pass of inputs changes the output of the next: keep no running statistics "
            "(track_running_stats=False, or eval() for those of a pretrained network) and no dropout, so "
            "that N ranks compute what one does",
        )
        alone = torch.stack([
            torch.func.functional_call(module, {name: w[t] for name, w in weights.items()}, (x[t],))
            for t in range(2)
        ])  # fmt: skip
        with subject.doing("running it over tasks with metabench.engine.lift"):
            together = lift(module)(x, weights)
    subject.require(
        torch.allclose(together, alone, atol=CLOSE, rtol=CLOSE),
        "run over two tasks at once by metabench.engine.lift its output differs from one task at a time: "
        "keep to operations on whole tensors, with no state outside of parameters and buffers",
    )


def _check_places(subject: Subject, network: Network, shape: tuple[int, ...]) -> None:
    def run(device: Device) -> None:
        module = build(network, shape, OUTPUTS).to(device.torch)
        loss = module(_inputs(shape, 4).to(device.torch)).square().sum()
        if loss.requires_grad:
            loss.backward()

    check_no_strays(subject, run, torch.float64)
