"""In-context learning: a transformer reads the support set and classifies in one forward pass."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Algorithm, Episodes, Examples, Invalid, Network, Workload, setting
from metabench.device import Device
from metabench.learning import ModuleLearner, adam, fixed_ways, mean_gradient
from metabench.records import DataKind, Outputs

CLIP = 5.0  # deviations: values beyond are compressed by a logarithm
FLOOR = 1e-3  # probability that is spread evenly over the classes


@dataclass(frozen=True, kw_only=True)
class InContext(Algorithm):
    """Classifies a task's queries by a transformer that was meta-trained on other tasks.

    S. Müller et al.: Transformers Can Do Bayesian Inference, ICLR 2022; N. Hollmann et al.: TabPFN, ICLR
    2023. A row is a token: its inputs scaled by the support set's mean and deviation, and for a support row
    its class. All rows attend to the support rows, so that each query is predicted alone. Departures: a
    query's class probabilities are those of the support rows that a last attention picks, where TabPFN has
    a linear head; no ensemble over orders of columns and classes. The rate falls to 0 along a cosine.
    """

    name: ClassVar[str] = "in-context"
    needs_network: ClassVar[bool] = False
    any_ways: ClassVar[bool] = True

    rate: float = setting(1e-3, "learning rate of Adam at its highest", above=0)
    dim: int = setting(64, "width of a token", at_least=4)
    layers: int = setting(3, "layers of attention", at_least=1)
    heads: int = setting(4, "heads of each, which divide the width", at_least=1)
    most_ways: int = setting(10, "classes of a task at most", at_least=2)
    warm_up: int = setting(50, "steps over which the rate rises", at_least=0)

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "log-probabilities"."""
        return "log-probabilities"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "InContextLearner":
        """Build the learner; raise Invalid where tasks have more ways than `most_ways`."""
        train = workload.train
        ways = max(workload.test.ways, getattr(train, "ways", 0))
        if ways > self.most_ways:
            raise Invalid(f"in-context: most_ways must be at least {ways}, got {self.most_ways}")
        if self.dim % self.heads:
            raise Invalid(f"in-context: heads must divide dim = {self.dim}, got {self.heads}")
        module = Transformer(math.prod(workload.facts.input_shape), self).to(device.torch, device.dtype)
        return InContextLearner(self, module, workload)


class Rows(NamedTuple):
    """An adapted state: what the network keeps of each task's support set."""

    support: Examples
    ways: int


class InContextLearner(ModuleLearner):
    """Trains the transformer by the negative log-likelihood of queries."""

    outputs = "log-probabilities"
    anneals = True

    def __init__(self, settings: InContext, module: "Transformer", workload: Workload) -> None:
        super().__init__(module, adam(module, settings.rate, settings.name, workload))
        self.settings = settings
        self.ways = fixed_ways(workload)

    def learn(self, batch: Episodes | Examples, step: int, total: int) -> Tensor:
        """Leave the gradient of the queries' negative log-likelihood; return it per task, [T]."""
        assert isinstance(batch, Episodes)
        return mean_gradient(self.parameters(), self._losses, batch)

    def _losses(self, batch: Episodes) -> Tensor:
        prediction = self.module(batch.support, batch.query.x, batch.classes.shape[1])
        losses: Tensor = -prediction.gather(2, batch.query.y[..., None]).mean((1, 2))
        return losses

    def update(self, step: int, total: int) -> None:
        """Take a step of Adam, whose rate rises for `warm_up` steps and falls along a cosine."""
        rise = min(1.0, (step + 1) / max(1, self.settings.warm_up))
        factor = rise * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * factor
        super().update(step, total)

    def adapt(self, support: Examples, steps: int | None = None) -> Rows:
        """Return the support set itself: a transformer reads it together with the queries."""
        return Rows(support, self.ways or int(support.y.max()) + 1)

    def predict(self, state: Rows, query_x: Tensor) -> Tensor:
        """Return log-probabilities [T, q, ways]."""
        prediction: Tensor = self.module(state.support, query_x, state.ways)
        return prediction


class Transformer(nn.Module):
    """Rows attend to the support rows; a last attention picks the support rows whose classes count."""

    def __init__(self, inputs: int, settings: InContext) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, settings.dim)
        self.classes = nn.Embedding(settings.most_ways, settings.dim)
        self.blocks = nn.ModuleList(Block(settings.dim, settings.heads) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.dim)
        self.picks, self.picked = nn.Linear(settings.dim, settings.dim), nn.Linear(settings.dim, settings.dim)
        self.picked.load_state_dict(self.picks.state_dict())  # it begins as a likeness of rows

    def forward(self, support: Examples, query_x: Tensor, ways: int) -> Tensor:
        """Return log-probabilities [T, q, ways]."""
        rows, queries = (self.embed(x) for x in standardised(support.x.flatten(2), query_x.flatten(2)))
        count = rows.shape[1]
        tokens = torch.cat([rows + self.classes(support.y), queries], 1)
        for block in self.blocks:
            tokens = block(tokens, count)
        tokens = self.norm(tokens)
        picked, picks = self.picked(tokens[:, :count]), self.picks(tokens[:, count:])
        weights = (picks @ picked.mT / math.sqrt(tokens.shape[2])).softmax(2)
        shares = weights @ F.one_hot(support.y, ways).to(weights)
        mixed: Tensor = (1 - FLOOR) * shares + FLOOR / ways
        return mixed.log()


class Block(nn.Module):
    """Attention of all rows to the support rows, then a perceptron of each row."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.perceptron = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor, support: int) -> Tensor:
        """Return tokens [T, rows, dim] after the block; the first `support` rows are attended to."""
        x = self.first(tokens)
        key, value = (self._split(part(x[:, :support])) for part in (self.key, self.value))
        attended = F.scaled_dot_product_attention(self._split(self.query(x)), key, value)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        after: Tensor = tokens + self.perceptron(self.second(tokens))
        return after

    def _split(self, x: Tensor) -> Tensor:
        """Return [T, heads, rows, dim / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def standardised(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Return both scaled by the support's mean and deviation of each input, [T, n, inputs].

    Inputs that are constant in the support are 0; the others are scaled up by their number, so that tables
    of few columns have tokens as large as those of many. What is far out is compressed.
    """
    mean, deviation = support.mean(1, keepdim=True), support.std(1, keepdim=True, unbiased=False)
    varies = deviation > 1e-6 * (1e-6 + mean.abs())
    live = varies.sum(2, keepdim=True).clamp(min=1)
    scale = varies * torch.rsqrt(live / support.shape[2]) / torch.where(varies, deviation, 1.0)
    return compressed((support - mean) * scale), compressed((query - mean) * scale)


def compressed(x: Tensor) -> Tensor:
    """Return values as they are up to CLIP, and their logarithm beyond."""
    beyond = x.abs().clamp(min=CLIP) / CLIP
    return x.clamp(-CLIP, CLIP) * (1 + beyond.log() / CLIP)
