"""Relation networks: the comparison of a query with a class is learned as well."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Invalid, Network, Preset, Workload, setting
from metabench.device import Device
from metabench.engine import lift
from metabench.learning import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    EmbeddingLearner,
    EpisodicAlgorithm,
    class_sums,
    feature_width,
    map_shape,
)
from metabench.records import DataKind, Outputs

SMALLEST_MAP = 4
"""Pixels of a side that two blocks with padding leave one of."""
UNPADDED_MAP = 10
"""Pixels of a side from which on two blocks without padding leave one or more."""


@dataclass(frozen=True, kw_only=True)
class RelationNet(EpisodicAlgorithm):
    """Scores a query against each class by a learned relation module, trained to output 1 or 0.

    F. Sung et al.: Learning to Compare: Relation Network for Few-Shot Learning, CVPR 2018, equations 1 and 2:
    the classes' summed embeddings, concatenated with a query's, pass the relation module; the loss is the
    squared error to 1 for the right class and 0 for the others. `module` says what compares them.
    "convolution" is that of the paper's figures on images: two blocks of convolution, batch norm, ReLU and
    pooling over the maps of class and query, then two linear layers; the network must flatten its maps, as
    `conv4` does with `readout` "flatten" and 2 `halvings`. Its batch norm takes the statistics of all pairs
    of a task, as in the authors' code, so `statistics` must be "queries". "vector", the default, is another
    method, of the paper's section 3.4: two linear layers over feature vectors of any network.

    As in the authors' code, which never leaves training mode, batch norm takes the statistics of all
    queries, so the evaluation is transductive unless `statistics` says otherwise. By default
    gradients are not clipped, nor is the rate halved: that code does, see the presets. Departures of
    "convolution": maps below 10 pixels are padded in both blocks, as that code does for Omniglot alone. Of
    "vector": linear layers start as torch's do. Each relation is trained on its own, as right or wrong, and
    not as one class among the others: metrics of probabilities are refused.
    """

    name: ClassVar[str] = "relationnet"
    presets: ClassVar[Mapping[str, Preset]] = {
        "sung2018": Preset(
            "the authors' code for Omniglot",
            {"module": "convolution", "hidden": 8, "clip_norm": 0.5, "halve_every": 100_000},
            'dataset = "omniglot", network = {name = "conv4", downsample = "pool", halvings = 2, '
            'readout = "flatten"}, budget = {tasks = 1}',
        ),
        "sung2018-mini-imagenet": Preset(
            "the authors' code for mini-ImageNet",
            {"module": "convolution", "hidden": 8, "clip_norm": 0.5, "halve_every": 100_000},
            'dataset = "mini-imagenet", network = {name = "conv4", halvings = 2}, budget = {tasks = 1}',
        ),
    }

    statistics: str = setting("queries", STATISTICS_HELP, choices=STATISTICS)
    train_statistics: str = setting("queries", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)
    module: str = setting("vector", "what compares features", choices=("vector", "convolution"))
    hidden: int = setting(128, "width of the relation module's hidden linear layer", at_least=1)
    clip_norm: float = setting(
        0.0, "largest norm of the gradients of network and relation module, each; 0: any", at_least=0
    )

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores": the loss makes each relation a fraction of its own, which do not sum to one."""
        return "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "RelationNetLearner":
        """Build the learner of an embedding and of the relation module."""
        module = self.embedding(workload, network, device)
        if self.module == "convolution":
            relation: nn.Module = ConvolutionalRelation(self._maps(module, workload, device), self.hidden)
        else:
            width = feature_width(module, workload, device)
            relation = nn.Sequential(nn.Linear(2 * width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))
        return RelationNetLearner(self, module, relation.to(device.torch, device.dtype), workload)

    def _maps(self, module: nn.Module, workload: Workload, device: Device) -> tuple[int, int, int]:
        """Return the shape of the network's maps; raise Invalid where it has none to compare."""
        if {self.statistics, self.train_statistics} != {"queries"}:
            raise Invalid(
                "relationnet's convolutional module normalises all pairs of a task together: statistics and "
                f"train_statistics must be 'queries', got {self.statistics!r} and {self.train_statistics!r}"
            )
        shape = map_shape(module, workload, device)
        if shape is None or min(shape[1:]) < SMALLEST_MAP:
            raise Invalid(
                "relationnet's convolutional module needs a network that flattens maps of "
                f"{SMALLEST_MAP} × {SMALLEST_MAP} and more, got {shape or 'vectors'}: such as network = "
                '{name = "conv4", downsample = "pool", halvings = 2, readout = "flatten"}'
            )
        return shape


class ConvolutionalRelation(nn.Module):
    """Two blocks of convolution, batch norm, ReLU and pooling, then two linear layers: the authors' code."""

    def __init__(self, maps: tuple[int, int, int], hidden: int) -> None:
        super().__init__()
        channels, *sides = maps
        self.maps = (2 * channels, *sides)
        pad = int(min(sides) < UNPADDED_MAP)
        layers: list[nn.Module] = []
        for inputs in (2 * channels, channels):
            convolution = nn.Conv2d(inputs, channels, 3, padding=pad)
            nn.init.normal_(convolution.weight, std=(2 / (9 * channels)) ** 0.5)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has a bias
            norm = nn.BatchNorm2d(channels, track_running_stats=False)
            layers += [convolution, norm, nn.ReLU(), nn.MaxPool2d(2)]
            sides = [(side + 2 * pad - 2) // 2 for side in sides]
        layers += [nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], hidden), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 1))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.ones_(layer.bias)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the log-odds [n, 1] of pairs [n, 2 · channels · height · width]."""
        related: Tensor = self.layers(pairs.reshape(-1, *self.maps))
        return related


class RelationNetLearner(EmbeddingLearner):
    """Relations r = sigmoid(g([Σ f(support of the class), f(query)])) (equation 1)."""

    outputs = "scores"

    def __init__(
        self, settings: RelationNet, module: nn.Module, relation: nn.Module, workload: Workload
    ) -> None:
        super().__init__(settings, module, workload, [relation])
        self.relation = relation
        self.over_tasks = lift(relation)
        self.transductive = self.transductive or self.over_tasks.batch_statistics
        self.clip_norm = settings.clip_norm

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Tensor:
        """Return the summed embeddings of each class, [T, ways, d]."""
        return class_sums(features, y, ways)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Return the log-odds of each relation, [T, q, ways]; sigmoid gives the paper's relation score."""
        pairs = torch.cat(
            [
                fitted[:, None].expand(-1, features.shape[1], -1, -1),
                features[:, :, None].expand(-1, -1, fitted.shape[1], -1),
            ],
            dim=3,
        )
        return self.over_tasks(pairs.flatten(1, 2)).view(pairs.shape[:3])

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the squared error of the relations, [T] (equation 2), as a mean over queries and classes."""
        target = F.one_hot(y, scores.shape[2]).to(scores.dtype)
        return (scores.sigmoid() - target).square().mean((1, 2))

    def update(self, step: int, total: int) -> None:
        """Take one step of Adam, on gradients of network and relation module that are clipped by norm."""
        if self.clip_norm:
            for module in (self.lifted.module, self.relation):
                nn.utils.clip_grad_norm_(module.parameters(), self.clip_norm)
        super().update(step, total)
