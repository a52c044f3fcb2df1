"""The LSTM meta-learner: an LSTM reads a network's weights and gradients, and outputs the new weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from metabench import Examples, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import TaskWeights, constant_gradients
from metabench.learning import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    Adapted,
    GradientAlgorithm,
    GradientLearner,
)


@dataclass(frozen=True, kw_only=True)
class MetaLstm(GradientAlgorithm):
    """Learns the optimizer: an LSTM, shared by all weights, updates each from its gradient and the loss.

    S. Ravi, H. Larochelle: Optimization as a Model for Few-Shot Learning, ICLR 2017, section 3: the weights
    are the LSTM's cell state, θ ← f ⊙ θ − i ⊙ ∇L, with learned gates f and i, and the first θ is learned. As
    in the paper (section 3.2) gradients are constants to the meta-learner (first order), and gradient and
    loss are preprocessed as in M. Andrychowicz et al. 2016, appendix A; as in the authors' code a
    meta-gradient longer than `clip_norm` is scaled down to that norm. Departures: the input gate starts at
    `inner_rate` (the paper: 0.007 to 0.018) and the forget gate's bias at 5 (that code draws it from 4 to 5);
    5 updates on the whole support set, where that code takes 12 for 1 shot and mini-batches of 5 examples for
    5 shots; the gates of the step before are read after the sigmoid, as the paper writes it (before it in
    that code). Batch norm takes the statistics of the support set, in training and test alike; that code
    scores by running statistics of the task's own support set, so that no query sees another.
    """

    name: ClassVar[str] = "metalstm"
    presets: ClassVar[Mapping[str, Preset]] = {
        "ravi2017-1shot": Preset(
            "the authors' code for mini-ImageNet, 1 shot",
            {"steps": 12},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 32}',
        ),
        "ravi2017-5shot": Preset(
            "the authors' code for mini-ImageNet, 5 shots",
            {"steps": 5},
            'dataset = "mini-imagenet", network = {name = "conv4", width = 32}',
        ),
    }

    inner_rate: float = setting(
        0.01, "input gate, the step size of an update, at the start of training", above=0, at_most=0.9
    )
    steps: int = setting(5, "updates of a task's weights in training", at_least=1)
    statistics: str = setting("support", STATISTICS_HELP, choices=STATISTICS)
    train_statistics: str = setting("support", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)
    hidden: int = setting(20, "width of the LSTM that reads gradients and losses", at_least=1)
    clip_norm: float = setting(0.25, "largest norm of the whole meta-gradient; 0: any", at_least=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "MetaLstmLearner":
        """Build the learner of the first weights and of the LSTM that updates them."""
        module = self.module(network, workload, device)
        updater = Updater(self.hidden, self.inner_rate).to(device.torch, device.dtype)
        return MetaLstmLearner(self, module, updater, workload)


class MetaLstmLearner(GradientLearner):
    """Trains the first weights and the updater by the loss of the updated networks on queries."""

    def __init__(self, settings: MetaLstm, module: nn.Module, updater: "Updater", workload: Workload) -> None:
        super().__init__(module, workload, settings, updater)
        self.updater = updater
        self.clip_norm = settings.clip_norm
        self.held_per_weight = 4 * settings.hidden  # the gates of an LSTM

    def adapt(self, support: Examples, steps: int | None = None) -> Adapted:
        """Return each task's weights after `steps` updates by the LSTM."""
        weights: TaskWeights = self.start(len(support.x))
        memory = None
        steps = self.test_steps if steps is None else steps
        for _ in range(steps if weights else 0):  # without: all weights are frozen
            losses, gradients = constant_gradients(self.loss_on(support), weights)
            flat, memory = self.updater(_flat(weights), _flat(gradients), losses, memory)
            weights = _shaped(flat, weights)
        return Adapted(weights, support.x)

    def update(self, step: int, total: int) -> None:
        """Take one step of Adam on the clipped meta-gradient."""
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        super().update(step, total)


class Memory(NamedTuple):
    """The updater's state of each coordinate between updates: LSTM states and gates."""

    h: Tensor
    c: Tensor
    forget: Tensor
    insert: Tensor


class Updater(nn.Module):
    """The two-layer LSTM of section 3.1: an ordinary LSTM, then one whose cell state is the weights."""

    def __init__(self, hidden: int, start_rate: float) -> None:
        super().__init__()
        self.reader = nn.LSTMCell(4, hidden)
        self.forget = nn.Linear(hidden + 2, 1)
        self.insert = nn.Linear(hidden + 2, 1)
        with torch.no_grad():
            for weight in self.parameters():
                weight.uniform_(-0.01, 0.01)
            self.forget.bias.fill_(5.0)  # f = 0.993
            self.insert.bias.fill_(log(start_rate / (1 - start_rate)))

    def forward(
        self, weights: Tensor, gradients: Tensor, losses: Tensor, memory: Memory | None
    ) -> tuple[Tensor, Memory]:
        """Compute the new weights [T, P] from weights and their gradients [T, P] and the tasks' losses [T].

        i = σ(W_I [h, θ, i']), f = σ(W_F [h, θ, f']), with h from the first LSTM and the gates i', f' of
        the step before (0 at first); then θ ← f θ − i ∇L.
        """
        tasks, count = weights.shape
        seen = torch.cat([_scaled(gradients), _scaled(losses)[:, None].expand(-1, count, -1)], 2).flatten(
            0, 1
        )
        if memory is None:
            zero = weights.new_zeros(tasks * count, self.reader.hidden_size)
            memory = Memory(zero, zero, weights.new_zeros(tasks, count), weights.new_zeros(tasks, count))
        h, c = self.reader(seen, (memory.h, memory.c))
        read = h.view(tasks, count, -1)
        forget = self.forget(torch.cat([read, weights[..., None], memory.forget[..., None]], 2))
        insert = self.insert(torch.cat([read, weights[..., None], memory.insert[..., None]], 2))
        f, i = forget.squeeze(2).sigmoid(), insert.squeeze(2).sigmoid()
        return f * weights - i * gradients, Memory(h, c, f, i)


def _scaled(x: Tensor) -> Tensor:
    """Return magnitude and sign of elements of any size, [..., 2] (Andrychowicz et al. 2016, appendix A)."""
    p = 10.0
    large = x.abs() >= exp(-p)
    magnitude = x.abs().clamp(min=exp(-p)).log() / p
    return torch.stack(
        [torch.where(large, magnitude, -1.0), torch.where(large, x.sign(), exp(p) * x)], dim=-1
    )


def _flat(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([weight.flatten(1) for weight in weights.values()], 1)


def _shaped(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = torch.split(flat, [weight[0].numel() for weight in like.values()], 1)
    return {
        name: part.reshape(weight.shape) for (name, weight), part in zip(like.items(), parts, strict=True)
    }
