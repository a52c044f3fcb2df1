"""A learner that predicts a learned multiple of the support's mean, and one that comes to grief."""

import os
import signal
import time
from dataclasses import dataclass

import torch
from torch import nn

from metabench import Algorithm, setting
from metabench.learning import ModuleLearner, task_losses


class _Mean(ModuleLearner):
    outputs = "values"

    def __init__(self, device):
        module = nn.Module()
        module.register_parameter("scale", nn.Parameter(torch.zeros((), dtype=device.dtype)))
        super().__init__(module, torch.optim.SGD(module.parameters(), 0.1))
        self.device = device

    def learn(self, batch, step, total):
        self.module.zero_grad()
        prediction = self.predict(self.adapt(batch.support), batch.query.x)
        losses = task_losses("regression", prediction, batch.query.y)
        losses.mean().backward()
        return losses.detach()

    def adapt(self, support, steps=None):
        return support.y.mean(1, keepdim=True)

    def predict(self, state, query_x):
        return (self.module.scale * state).expand(-1, query_x.shape[1], -1)


@dataclass(frozen=True, kw_only=True)
class ToyMean(Algorithm):
    """Predicts a learned multiple of the support's mean."""

    name = "toy-mean"
    kinds = frozenset({"regression"})

    def build(self, workload, network, device):
        network.build(workload.facts.input_shape, workload.outputs)
        return _Mean(device)


@dataclass(frozen=True, kw_only=True)
class Mishap(ToyMean):
    """Does what it should for a while, then comes to grief."""

    name = "mishap"
    how: str = setting("none", "what happens", choices=("none", "kill", "raise", "sleep", "memory", "nan"))
    at_step: int = setting(3, "when", at_least=0)
    on_rank: int = setting(0, "where", at_least=0)

    def build(self, workload, network, device):
        return _Grief(device, self)


class _Grief(_Mean):
    def __init__(self, device, plan):
        super().__init__(device)
        self.plan = plan

    def learn(self, batch, step, total):
        losses = super().learn(batch, step, total)
        if step < self.plan.at_step or self.device.rank != self.plan.on_rank:
            return losses
        if self.plan.how == "kill":
            print("about to be killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.plan.how == "raise":
            raise RuntimeError("the toy broke")
        if self.plan.how == "sleep":
            print("falls asleep", flush=True)
            time.sleep(600)
        if self.plan.how == "nan":
            print("about to diverge", flush=True)
        if self.plan.how == "memory":
            print("about to run out of memory", flush=True)
            torch.empty(1 << 50)
        return losses * float("nan") if self.plan.how == "nan" else losses
