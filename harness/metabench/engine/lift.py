"""Lifts an ordinary module over tasks: one call runs it for every task, with the task's own weights.

    lifted = lift(module)
    lifted(x)                        # [T, n, *input] → [T, n, outputs], the module's weights for all tasks
    lifted(x, {"head.weight": w})    # w [T, outputs, d]: each task has its own head

The module's operations are read once (`torch.fx`) and each is run for all tasks by its rule
(`metabench.engine.rules`, `metabench.engine.function_rules`). A module with an operation that has no rule
runs by the generic path (`metabench.engine.generic`). Batch norm always takes the statistics of the task's
own batch: running statistics would carry information from one task to the next, and depend on the order of
the tasks.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from metabench.engine.function_rules import FUNCTION_RULES, METHOD_RULES
from metabench.engine.generic import Generic
from metabench.engine.kernels import Kernels, kernels_for, layer_kernels
from metabench.engine.norms import drop_running_statistics, is_fixed
from metabench.engine.perceptron import Operation, Perceptron, perceptron_of
from metabench.engine.rules import LayerRule, layer_rule
from metabench.engine.values import Context, NoRule, Value, Weights
from metabench.errors import Invalid

Part = Literal["all", "features", "head"]
READS = (getattr, operator.getitem, len)  # of a value's shape, or of a size


class Lifted:
    """A module that takes a leading task axis.

    path: how it runs, "batched" (by rules), "batched, kernels", "vmap" or "loop"; reason: why not by rules,
    else empty;
    norms: the batch norms that came without statistics of their own; batch_statistics: whether there are
    any, so that an output depends on the other examples of its task;
    convolutional: whether it has convolutions, which decides how many tasks are run at once.
    """

    def __init__(self, module: nn.Module) -> None:
        _refuse_dropout(module)
        self.module = module
        self.reason = ""
        self.norms = drop_running_statistics(module)
        self.batch_statistics = bool(self.norms)
        self.convolutional = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
        self._programs: dict[Part, Program] = {}
        self._generic: Generic | None = None
        self._choices: dict[str, str] = {}
        try:
            self._programs["all"] = Program(module, "all")
        except NoRule as missing:
            self.reason = f"no rule for {missing}"
            self._generic = Generic(module)
        self._kernels_title = Kernels.title
        for weight in module.parameters():  # compiled and loaded now, not in the first step that is timed
            if weight.dim() == 4:
                kernels = layer_kernels(weight)
                self._kernels_title = Kernels.title if kernels is None else kernels.title
            elif self.perceptron is not None:
                kernels_for(weight)

    @property
    def perceptron(self) -> Perceptron | None:
        """Return the network as a perceptron whose inner steps kernels can take, where it is one."""
        return None if self._generic is not None else self._programs["all"].perceptron

    def note_kernels(self) -> None:
        """Say in `path` that kernels have run the network."""
        self._programs["all"].used_kernels = True

    @property
    def choices(self) -> dict[str, str]:
        """Return how each part runs by the generic path, "vmap" or "loop", as its first run has shown."""
        return self._choices if self._generic is None else self._generic.ways

    def choose(self, choices: Mapping[str, str]) -> None:
        """Run parts by the generic path as they ran before an interruption, instead of looking again."""
        self._choices = dict(choices)
        if self._generic is not None:
            self._generic.ways.update(self._choices)

    @property
    def path(self) -> str:
        """Return how the module runs: "batched", "vmap" or "loop", and what kernels it has run on so far.

        "batched, kernels" is on the CPU's, "batched, triton kernels" on a GPU's.
        """
        if self._generic is not None:
            return self._generic.path
        kernels = any(program.used_kernels for program in self._programs.values())
        return f"batched, {self._kernels_title}" if kernels else "batched"

    def __call__(
        self,
        x: Tensor,
        parameters: Mapping[str, Tensor] | None = None,
        part: Part = "all",
        statistics: int | None = None,
    ) -> Tensor:
        """Return outputs [T, n, …] for x [T, n, *input].

        parameters: [T, …] per name of `named_parameters()`, each task's own weights; a name that is
        absent, or None for all of them, means the module's weights, shared by all tasks. Each task has
        its own normalisation statistics either way. part: run the whole module, its `.features`, or its
        `.head` (whose x is [T, n, d]). statistics: batch norm takes its statistics from that many first
        examples of each task, so that the others do not affect each other; None: from all of them.
        """
        if self._generic is None:
            try:
                if part not in self._programs:
                    self._programs[part] = Program(self.module, part)
                return self._programs[part](x, parameters or {}, statistics)
            except NoRule as missing:  # a shape that a rule does not cover shows in the first run only
                self.reason = f"no rule for {missing}"
                self._generic = Generic(self.module)
                self._generic.ways.update(self._choices)
        if statistics is not None and not all(map(is_fixed, self.norms)):
            raise Invalid(
                f"{type(self.module).__name__} has batch norm and {self.reason}: normalising by the support "
                "set alone needs a network that runs by rules; set statistics to 'queries' or 'joined'"
            )
        return self._generic(x, parameters or {}, part)


def lift(module: nn.Module) -> Lifted:
    """Return the module lifted over tasks; drop the running statistics of batch norms in training mode.

    Raises `Invalid` where what it computes would depend on how tasks are sharded or on their order.
    """
    return Lifted(module)


def _refuse_dropout(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0 and layer.training:
            raise Invalid(
                f"layer {name!r} drops elements at random: which ones would depend on how tasks are shared "
                "out to chunks and ranks; build the network with dropout 0"
            )


class Step(NamedTuple):
    """One operation: writes slot `to` from arguments that name slots by `fx.Node`."""

    to: fx.Node
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Layer(NamedTuple):
    """A layer with its rule, the node of its input, and the names of its parameters in the module.

    normed: the batch norm that alone reads the output; relu: whether the layer computes the ReLU after it.
    """

    input: fx.Node
    module: nn.Module
    rule: LayerRule
    parameters: Mapping[str, str]
    normed: nn.BatchNorm2d | None
    relu: bool

    @property
    def cancelled_bias(self) -> bool:
        """Return whether a constant that is added to the output changes nothing."""
        return self.normed is not None and not is_fixed(self.normed)


class Program:
    """The operations of a module, or of one part of it, each with its rule; raises NoRule."""

    def __init__(self, module: nn.Module, part: Part) -> None:
        root = module if part == "all" else module.get_submodule(part)
        names = {id(p): name for name, p in module.named_parameters()}
        if type(root).__module__.startswith("torch.nn"):  # fx takes a lone layer apart; a layer is a step
            root = nn.Sequential(root)
        graph = _trace(root)
        self.steps: list[tuple[fx.Node, Layer | Step]] = []
        self.shared = dict(module.named_parameters())
        self.used_kernels = False
        relus: set[fx.Node | None] = set()  # those that a batch norm before them computes
        for node in graph.nodes:
            if node.op == "placeholder":
                self.input = node
            elif node.op == "output":
                self.output = node.args[0]
            elif node in relus:
                self.steps.append((node, Step(node, _unchanged, (node.all_input_nodes[0],), {})))
            elif node.op == "call_module":
                layer = root.get_submodule(str(node.target))
                own = {n: names[id(p)] for n, p in layer.named_parameters(recurse=False)}
                rule, relu = layer_rule(layer), _relu_of_norm(root, node)
                relus.add(relu)
                step = Layer(_only_input(node), layer, rule, own, _norm_of(root, node), relu is not None)
                self.steps.append((node, step))
            else:
                self.steps.append((node, _step(node)))
        if not isinstance(self.output, fx.Node):
            raise NoRule("several outputs")
        self.perceptron = perceptron_of(
            [_operation(node, step) for node, step in self.steps], (self.input, self.output), self.shared
        )

    def __call__(self, x: Tensor, own: Mapping[str, Tensor], statistics: int | None) -> Tensor:
        """Run the operations in order for x [T, n, …]."""
        slots: dict[fx.Node, Any] = {self.input: Value(x, x.shape[0])}
        for node, step in self.steps:
            if isinstance(step, Layer):
                weights = Weights(
                    {n: own[full] for n, full in step.parameters.items() if full in own},
                    {n: self.shared[full] for n, full in step.parameters.items() if full not in own},
                )
                context = Context(statistics, step.cancelled_bias, step.relu)
                value = slots[node] = step.rule(step.module, slots[step.input], weights, context)
                self.used_kernels |= value.layout == "last"
            else:
                slots[node] = _run(step, slots)
        result = slots[self.output]
        if not isinstance(result, Value):
            raise NoRule("an output that is no tensor")
        return result.by_task()


def _operation(node: fx.Node, step: Layer | Step) -> Operation:
    return (
        Operation(node, step.module, step.parameters)
        if isinstance(step, Layer)
        else Operation(node, None, {})
    )


def _run(step: Step, slots: Mapping[fx.Node, Any]) -> Any:
    args = fx.node.map_arg(step.args, lambda node: slots[node])
    kwargs = fx.node.map_arg(step.kwargs, lambda node: slots[node])
    if step.function in READS or any(isinstance(value, Value) for value in (*args, *kwargs.values())):
        rule = FUNCTION_RULES.get(step.function, step.function)
        return rule(*args, **kwargs)
    return step.function(*args, **kwargs)


def _only_input(node: fx.Node) -> fx.Node:
    """Return what a layer is called with; raise NoRule for anything but a single value."""
    arguments = [*node.args, *node.kwargs.values()]
    if len(arguments) != 1 or not isinstance(arguments[0], fx.Node):
        raise NoRule(f"layer {node.target!r} with other arguments than one input")
    return arguments[0]


def _step(node: fx.Node) -> Step:
    """Return a call of a function or method; raise NoRule where its rule does not take these arguments."""
    function = _function(node)
    args, kwargs = node.args, dict(node.kwargs)
    if not args and "input" in kwargs:  # F.relu(input=x)
        args = (kwargs.pop("input"),)
    rule = FUNCTION_RULES.get(function, function)
    if function is not operator.floordiv:
        try:
            inspect.signature(rule).bind(*args, **kwargs)
        except TypeError as error:
            raise NoRule(f"{_name(node)} with other arguments ({error})") from error
    return Step(node, function, args, kwargs)


def _function(node: fx.Node) -> Callable[..., Any]:
    """Return a step's function; raise NoRule where neither a rule nor plain arithmetic on sizes covers it."""
    if node.op == "call_method":
        if node.target not in METHOD_RULES:
            raise NoRule(f"method {node.target!r}")
        return METHOD_RULES[str(node.target)]
    if node.op == "call_function" and (node.target in FUNCTION_RULES or node.target is operator.floordiv):
        return node.target  # type: ignore[return-value]  # a function node's target is a function
    raise NoRule(f"{node.op} {_name(node)}")


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


class _Tracer(fx.Tracer):
    """Records a network's operations; raises NoRule where some are hidden from autograd.

    A `torch.autograd.Function` runs its forward without recording, as `no_grad` does: read as ordinary
    operations they would get an ordinary gradient in place of their own.
    """

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if not torch.is_grad_enabled():
            raise NoRule("an autograd.Function, or code under no_grad")
        return super().create_node(*args, **kwargs)


def _trace(root: nn.Module) -> fx.Graph:
    before = {name: buffer.clone() for name, buffer in root.named_buffers()}
    try:
        with torch.enable_grad():
            graph = _Tracer().trace(root)
    except NoRule:
        raise
    except Exception as error:  # tracing runs the network's own code on stand-ins: it may raise anything
        raise NoRule(f"a network that cannot be traced ({type(error).__name__}: {error})") from error
    finally:
        for name, buffer in root.named_buffers():  # code that counts its runs counts this run too
            buffer.copy_(before[name])
    if sum(node.op == "placeholder" for node in graph.nodes) != 1:
        raise NoRule("a network of several inputs")
    return graph


def _norm_of(root: nn.Module, node: fx.Node) -> nn.BatchNorm2d | None:
    """Return the batch norm that alone reads a linear layer's output, and cancels any added constant."""
    if not isinstance(root.get_submodule(str(node.target)), (nn.Conv2d, nn.Linear)):
        return None
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    layer = root.get_submodule(str(users[0].target))
    return cast(nn.BatchNorm2d, layer) if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) else None


def _relu_of_norm(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """Return the ReLU that alone takes the output of this layer, where the layer is a batch norm."""
    users = list(node.users)
    if len(users) != 1 or type(root.get_submodule(str(node.target))) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return None
    (user,) = users
    if user.op == "call_module":
        layer = root.get_submodule(str(user.target))
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        return user if type(layer) is nn.ReLU and not hooked else None
    functions = (F.relu, torch.relu, "relu", "relu_")
    return user if user.op in ("call_function", "call_method") and user.target in functions else None


def _unchanged(x: Value) -> Value:
    return x
