"""Relation networks: the comparison of a query with a class is learned as well."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metabench import Network, Workload, setting
from metabench.device import Device
from metabench.learning import (
    STATISTICS,
    STATISTICS_HELP,
    TASK_STATISTICS,
    TRAIN_STATISTICS_HELP,
    EmbeddingLearner,
    EpisodicAlgorithm,
    class_sums,
    feature_width,
)
from metabench.records import DataKind, Outputs


@dataclass(frozen=True, kw_only=True)
class RelationNet(EpisodicAlgorithm):
    """Scores a query against each class by a learned relation module, trained to output 1 or 0.

    F. Sung et al.: Learning to Compare: Relation Network for Few-Shot Learning, CVPR 2018, equations 1
    and 2: the classes' summed embeddings, concatenated with a query's, pass the relation module; the loss
    is the squared error to 1 for the right class and 0 for the others. Departure: the relation module is
    that of the paper's section 3.4, two linear layers over feature vectors, since networks here output
    vectors and not maps. As in the authors' code, which never leaves training mode, batch norm takes the
    statistics of all queries, so the evaluation is transductive unless `statistics` says otherwise. Each
    relation is trained on its own, as right or wrong, and not as one class among the others: metrics of
    probabilities are refused.
    """

    name: ClassVar[str] = "relationnet"

    statistics: str = setting("queries", STATISTICS_HELP, choices=STATISTICS)
    train_statistics: str = setting("queries", TRAIN_STATISTICS_HELP, choices=TASK_STATISTICS)
    hidden: int = setting(128, "width of the relation module's hidden layer", at_least=1)

    def predicts(self, kind: DataKind) -> Outputs:
        """Return "scores": the loss makes each relation a fraction of its own, which do not sum to one."""
        return "scores"

    def build(self, workload: Workload, network: Network | None, device: Device) -> "RelationNetLearner":
        """Build the learner of an embedding and of the relation module."""
        module = self.embedding(workload, network, device)
        width = feature_width(module, workload, device)
        relation = nn.Sequential(nn.Linear(2 * width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))
        return RelationNetLearner(self, module, relation.to(device.torch, device.dtype), workload)


class RelationNetLearner(EmbeddingLearner):
    """Relations r = sigmoid(g([Σ f(support of the class), f(query)])) (equation 1)."""

    outputs = "scores"

    def __init__(
        self, settings: RelationNet, module: nn.Module, relation: nn.Module, workload: Workload
    ) -> None:
        super().__init__(settings, module, workload, [relation])
        self.relation = relation

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
        related: Tensor = self.relation(pairs)
        return related.squeeze(3)

    def losses(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the squared error of the relations, [T] (equation 2), as a mean over queries and classes."""
        target = F.one_hot(y, scores.shape[2]).to(scores.dtype)
        return (scores.sigmoid() - target).square().mean((1, 2))
