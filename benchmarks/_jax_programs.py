"""The meta-steps of `_contest.ROWS` in JAX, as its users write them for a CPU with several cores.

Convolutions are products of patches with kernels: `lax.conv` under `vmap` is several times slower on a CPU.
The forms differ in how tasks share the machine:
"vmap"           one program over all tasks, which XLA shares out to its threads;
"sharded vmap"   `shard_map` over one host device a thread, all tasks of a device at once;
"sharded scan"   the same with one task after the other, so that a task's activations stay in the cache.

XLA reads the number of host devices when it is loaded: `prepare` comes before anything else of this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from _contest import WAYS, Row, episodes_of, module_of
from torch import Tensor, nn

from metabench.device import Device

Arrays = dict[str, Any]
ADAM = {"rate": 1e-3, "mean": 0.9, "square": 0.999, "epsilon": 1e-8}


def prepare(threads: int) -> None:
    """Set up XLA for so many threads, as as many host devices."""
    flags = f"--xla_force_host_platform_device_count={threads}"
    single = " --xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}{single}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"


class JaxProgram:
    """A row's meta-step; one compiled program for the gradient, one for gradient and update."""

    def __init__(self, row: Row, device: Device, form: str) -> None:
        import jax

        jax.config.update("jax_enable_x64", device.dtype == torch.float64)
        module = module_of(row, device)
        episodes = episodes_of(row, device)
        self.weights = {name: _array(weight) for name, weight in _without_cancelled_biases(module)}
        self.tasks = tuple(_array(tensor) for tensor in (*episodes.support, *episodes.query))
        self.state: Any = ({n: np.zeros_like(w) for n, w in self.weights.items()},) * 2 + (0,)
        gradient = _over_tasks(partial(_task_gradient, row, _network(module)), row.tasks, form)
        self.gradient = jax.jit(gradient)
        self.whole = jax.jit(
            lambda weights, state, *tasks: _update(row, weights, state, gradient(weights, *tasks))
        )
        if form.startswith("sharded"):
            self._place()

    def step(self) -> None:
        """Take one whole meta-step, to its end: JAX returns before that."""
        import jax

        self.weights, self.state = jax.block_until_ready(self.whole(self.weights, self.state, *self.tasks))

    def gradients(self) -> dict[str, Tensor]:
        """Return the meta-gradient as torch's tensors in torch's layouts."""
        return {name: _tensor(array) for name, array in self.gradient(self.weights, *self.tasks).items()}

    def _place(self) -> None:
        """Put each device's tasks on it, and the weights on all."""
        import jax
        from jax.sharding import NamedSharding
        from jax.sharding import PartitionSpec as Axes

        mesh = jax.make_mesh((len(jax.devices()),), ("devices",))
        spread, whole = NamedSharding(mesh, Axes("devices")), NamedSharding(mesh, Axes())
        self.tasks = tuple(jax.device_put(array, spread) for array in self.tasks)
        self.weights, self.state = jax.device_put((self.weights, self.state), whole)


def _array(tensor: Tensor) -> Any:
    """Return a tensor as an array: images and kernels with channels last, matrices [inputs, outputs]."""
    array = tensor.detach().numpy()
    axes = {2: (1, 0), 4: (2, 3, 1, 0), 5: (0, 1, 3, 4, 2)} if tensor.is_floating_point() else {}
    return np.ascontiguousarray(array.transpose(axes.get(array.ndim, range(array.ndim))))


def _tensor(array: Any) -> Tensor:
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}
    return torch.from_numpy(np.asarray(array).transpose(axes.get(array.ndim, range(array.ndim))).copy())


def _without_cancelled_biases(module: nn.Module) -> list[tuple[str, Tensor]]:
    cancelled = {f"{name}.bias" for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    return [(name, weight) for name, weight in module.named_parameters() if name not in cancelled]


def _network(module: nn.Module) -> Callable[[Arrays, Any], Any]:
    """Return the network as a function of weights and of one task's inputs."""
    import jax

    layers = [
        (name, layer) for name, layer in module.named_modules() if list(layer.parameters(recurse=False))
    ]
    last = layers[-1][0]

    def apply(weights: Arrays, x: Any) -> Any:
        for name, layer in layers:
            own = {part: weights.get(f"{name}.{part}") for part in ("weight", "bias")}
            if isinstance(layer, nn.Conv2d):
                x = _convolve(x, own["weight"])
            elif isinstance(layer, nn.BatchNorm2d):
                x = jax.nn.relu(_normalise(x, own["weight"], own["bias"], layer.eps))
            else:
                x = (x.mean((1, 2)) if x.ndim == 4 else x) @ own["weight"] + own["bias"]
                x = x if name == last else jax.nn.relu(x)
        return x.mean((1, 2)) if x.ndim == 4 else x

    return apply


def _convolve(x: Any, kernels: Any) -> Any:
    """Convolve 3 × 3 with stride 2 and padding 1 (Conv4's): x [n, H, W, C], kernels [3, 3, C, O]."""
    import jax.numpy as jnp

    n, height, width, channels = x.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [
        padded[:, i : i + 2 * down - 1 : 2, j : j + 2 * across - 1 : 2] for i in range(3) for j in range(3)
    ]
    patches = jnp.concatenate(taps, -1).reshape(n * down * across, 9 * channels)
    return (patches @ kernels.reshape(9 * channels, -1)).reshape(n, down, across, -1)


def _normalise(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    import jax
    import jax.numpy as jnp

    mean = x.mean((0, 1, 2))
    variance = jnp.square(x - mean).mean((0, 1, 2))
    return (x - mean) * (weight * jax.lax.rsqrt(variance + epsilon)) + bias


def _task_gradient(
    row: Row, network: Callable[[Arrays, Any], Any], weights: Arrays, xs: Any, ys: Any, xq: Any, yq: Any
) -> Arrays:
    """Return one task's meta-gradient."""
    import jax
    import jax.numpy as jnp

    def loss(weights: Arrays, x: Any, y: Any) -> Any:
        return _loss(row, network(weights, x), y)

    def adapted(weights: Arrays, x: Any, y: Any) -> Arrays:
        for _ in range(row.settings["steps"]):
            gradient = jax.grad(loss)(weights, x, y)
            if row.settings.get("first_order", False):
                gradient = jax.lax.stop_gradient(gradient)
            weights = jax.tree.map(lambda w, g: w - row.settings["inner_rate"] * g, weights, gradient)
        return weights

    if row.algorithm == "protonet":
        return jax.grad(lambda w: _prototype_loss(row, partial(network, w), xs, ys, xq, yq))(weights)
    if row.algorithm == "maml":
        return jax.grad(lambda w: loss(adapted(w, xs, ys), xq, yq))(weights)
    trained = adapted(weights, jnp.concatenate([xs, xq]), jnp.concatenate([ys, yq]))
    return jax.tree.map(lambda start, end: start - end, weights, trained)


def _loss(row: Row, outputs: Any, y: Any) -> Any:
    import jax
    import jax.numpy as jnp

    if row.regression:
        return jnp.square(outputs - y).mean()
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean()


def _prototype_loss(row: Row, embed: Callable[[Any], Any], xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
    """Return the queries' loss; support and queries have their own statistics of batch norm."""
    import jax
    import jax.numpy as jnp

    support, queries = embed(xs), embed(xq)
    members = jax.nn.one_hot(ys, WAYS, dtype=support.dtype)
    means = (members.T @ support) / members.sum(0)[:, None]
    distances = jnp.square(queries).sum(1)[:, None] - 2 * queries @ means.T + jnp.square(means).sum(1)
    return _loss(row, -distances, yq)


def _over_tasks(task_gradient: Callable[..., Arrays], tasks: int, form: str) -> Callable[..., Arrays]:
    """Return the mean gradient over all tasks, in the order of work that the form says."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as Axes

    def vmapped(weights: Arrays, *batch: Any) -> Arrays:
        each_task = jax.vmap(task_gradient, (None, 0, 0, 0, 0))(weights, *batch)
        return jax.tree.map(lambda gradient: gradient.sum(0) / tasks, each_task)

    def scanned(weights: Arrays, *batch: Any) -> Arrays:
        def add(total: Arrays, task: Any) -> tuple[Arrays, None]:
            return jax.tree.map(jnp.add, total, task_gradient(weights, *task)), None

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), batch)
        return jax.tree.map(lambda gradient: gradient / tasks, total)

    if not form.startswith("sharded"):
        return vmapped
    of_device = scanned if form.endswith("scan") else vmapped

    def shard(weights: Arrays, *batch: Any) -> Arrays:
        own = jax.tree.map(lambda w: jax.lax.pcast(w, ("devices",), to="varying"), weights)
        return jax.tree.map(lambda gradient: jax.lax.psum(gradient, "devices"), of_device(own, *batch))

    mesh = jax.make_mesh((len(jax.devices()),), ("devices",))
    axes = (Axes(), *[Axes("devices")] * 4)
    sharded: Callable[..., Arrays] = jax.shard_map(shard, mesh=mesh, in_specs=axes, out_specs=Axes())
    return sharded


def _update(row: Row, weights: Arrays, state: Any, gradient: Mapping[str, Any]) -> tuple[Arrays, Any]:
    """Take a step of Adam, or of plain descent with rate 1 for Reptile."""
    import jax.numpy as jnp

    if row.algorithm == "reptile":
        return {name: weight - gradient[name] for name, weight in weights.items()}, state
    means, squares, step = state
    step = step + 1
    means = {n: ADAM["mean"] * m + (1 - ADAM["mean"]) * gradient[n] for n, m in means.items()}
    squares = {n: ADAM["square"] * s + (1 - ADAM["square"]) * gradient[n] ** 2 for n, s in squares.items()}
    of_mean, of_square = 1 - ADAM["mean"] ** step, 1 - ADAM["square"] ** step
    new = {
        n: w - ADAM["rate"] * (means[n] / of_mean) / (jnp.sqrt(squares[n] / of_square) + ADAM["epsilon"])
        for n, w in weights.items()
    }
    return new, (means, squares, step)
