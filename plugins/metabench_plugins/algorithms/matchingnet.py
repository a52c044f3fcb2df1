"""Matching networks: attention over the support set, with and without full context embeddings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Network, Preset, Workload, setting
from metabench.device import Device
from metabench.learning import (
    EmbeddingLearner,
    EpisodicAlgorithm,
    cosines,
    feature_width,
)

NO_VOTE = -1e30
"""The logarithm of no vote: finite, so that its gradient is 0 and no NaN."""


@dataclass(frozen=True, kw_only=True)
class MatchingNet(EpisodicAlgorithm):
    """Classifies by attention over the support set: each example votes for its class by cosine similarity.

    O. Vinyals et al.: Matching Networks for One Shot Learning, NeurIPS 2016; `context` turns on its full
    context embeddings (section 2.1.2, appendix A), which embed each example given the whole support set,
    in the set's order. Departures: similarities are multiplied by `sharpness`
    (the paper: 1; cosines alone leave the softmax nearly flat, so the default is 10); Adam. As in the code of
    A Closer Look at Few-shot Classification batch norm takes the statistics of a task's support and queries
    in one batch in training, and those of meta-train in the test. That code has 100 for `sharpness`.
    """

    name: ClassVar[str] = "matchingnet"
    presets: ClassVar[Mapping[str, Preset]] = {
        "vinyals2016": Preset(
            "Vinyals et al. 2016, equation 2",
            {"sharpness": 1.0},
            'dataset = "omniglot", network = {name = "conv4", downsample = "pool", readout = "flatten"}',
        ),
        "chen2019": Preset(
            "the code of A Closer Look at Few-shot Classification",
            {"context": True, "sharpness": 100.0},
            'dataset = "mini-imagenet", network = "conv4", budget = {steps = 60000, tasks = 1}; 1 shot',
        ),
    }

    context: bool = setting(False, "full context embeddings: a BiLSTM over the support, an attending LSTM")
    reads: int = setting(4, "steps of the attending LSTM over a query (K), with `context`", at_least=1)
    sharpness: float = setting(10.0, "factor of the cosines inside the softmax", above=0)

    def build(self, workload: Workload, network: Network | None, device: Device) -> "MatchingNetLearner":
        """Build the learner of an embedding, and of its context where that is on."""
        module = self.embedding(workload, network, device)
        context = None
        if self.context:
            context = Context(feature_width(module, workload, device), self.reads)
            context.to(device.torch, device.dtype)
        return MatchingNetLearner(self, module, context, workload)


class Attended(NamedTuple):
    """The support set to attend to: features [T, n, d] in context, one-hot classes [T, n, ways]."""

    features: Tensor
    member: Tensor


class MatchingNetLearner(EmbeddingLearner):
    """P(y | x̂, S) = Σᵢ a(x̂, xᵢ) yᵢ with a = softmax of the cosines (equations 1 and 2)."""

    outputs = "log-probabilities"

    def __init__(
        self, settings: MatchingNet, module: nn.Module, context: "Context | None", workload: Workload
    ) -> None:
        super().__init__(settings, module, workload, [] if context is None else [context])
        self.sharpness = settings.sharpness
        self.context = context

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Attended:
        """Return the support set as it is attended to: g(xᵢ, S)."""
        if self.context is not None:
            features = self.context.support(features)
        return Attended(features, F.one_hot(y, ways).to(features.dtype))

    def score(self, fitted: Attended, features: Tensor) -> Tensor:
        """Return log P(y | x̂, S), [T, q, ways]; a class without support scores the log of the least float.

        The votes of a class are added by their logarithms, since with a high `sharpness` they are less than
        the least float.
        """
        if self.context is not None:
            features = self.context.query(features, fitted.features)
        attention = (self.sharpness * cosines(features, fitted.features)).log_softmax(2)
        member = fitted.member.bool()
        votes = torch.where(member[:, None], attention[..., None], NO_VOTE).logsumexp(2)
        least = math.log(torch.finfo(votes.dtype).tiny)
        return torch.where(member.any(1)[:, None], votes, least)


class Context(nn.Module):
    """Full context embeddings: g reads the support set, f reads a query K times with attention on it."""

    def __init__(self, width: int, reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.over_support = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.over_query = nn.LSTMCell(width, 2 * width)

    def support(self, features: Tensor) -> Tensor:
        """Return g(xᵢ, S) = h→ᵢ + h←ᵢ + g'(xᵢ) (appendix A.2): [T, n, d] → [T, n, d]."""
        forward, backward = self.over_support(features)[0].chunk(2, dim=2)
        g: Tensor = features + forward + backward
        return g

    def query(self, features: Tensor, support: Tensor) -> Tensor:
        """Return f(x̂, S) by attLSTM (equations 3 to 6): features [T, q, d], support [T, n, d] → [T, q, d].

        The paper's hidden input [h, r] is twice as wide as its hidden output ĥ: here the cell has twice
        the width, and ĥ is the first half of its output. It starts from ĥ₀ = 0.
        """
        tasks, q, d = features.shape
        flat = features.reshape(tasks * q, d)
        h = flat
        cell = flat.new_zeros(tasks * q, 2 * d)
        for _ in range(self.reads):
            attention = (h.view(tasks, q, d) @ support.mT).softmax(2)
            read = (attention @ support).reshape(tasks * q, d)
            hidden, cell = self.over_query(flat, (torch.cat([h, read], 1), cell))
            h = hidden[:, :d] + flat
        return h.view(tasks, q, d)
