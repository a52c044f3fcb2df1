"""learn2learn's own algorithms: its classes learn, the adapter fits them to the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from metabench import Algorithm, Invalid, Network, Protocol, Workload, setting
from metabench.device import Device
from metabench.learning import adam, build_network
from metabench_plugins.learn2learn.adapter import CloneAdapt, EmbedFitLearner
from metabench_plugins.learn2learn.importing import FromLibrary, learn2learn

FIRST_ORDER_HELP = "take the inner gradients for constants"


def _has_frozen(module: nn.Module) -> bool:
    return not all(weight.requires_grad for weight in module.parameters())


@dataclass(frozen=True, kw_only=True)
class L2lMaml(FromLibrary, CloneAdapt):
    """MAML by `learn2learn.algorithms.MAML`.

    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning, ICML 2017; settings as those of `maml`.
    """

    name: ClassVar[str] = "l2l-maml"

    first_order: bool = setting(False, FIRST_ORDER_HELP)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the network in the library's MAML."""
        maml = learn2learn().algorithms.MAML
        wrapped = maml(
            module, lr=self.inner_rate, first_order=self.first_order, allow_nograd=_has_frozen(module)
        )
        return cast(nn.Module, wrapped)


@dataclass(frozen=True, kw_only=True)
class L2lAnil(L2lMaml):
    """ANIL: the library's MAML around the head alone; the features are shared by all tasks.

    A. Raghu, M. Raghu, S. Bengio, O. Vinyals: Rapid Learning or Feature Reuse?, ICLR 2020. Departure from
    the library's example `anil_fc100.py`: support and queries pass the features one after the other, so
    that batch norm does not normalise the support set by its queries.
    """

    name: ClassVar[str] = "l2l-anil"

    def shared(self, module: nn.Module) -> nn.Module:
        """Return everything but the head."""
        return cast(nn.Module, module.features)


@dataclass(frozen=True, kw_only=True)
class L2lMetaSgd(FromLibrary, CloneAdapt):
    """Meta-SGD by `learn2learn.algorithms.MetaSGD`: a learned rate for every weight, `inner_rate` at first.

    Z. Li, F. Zhou, F. Chen, H. Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017.
    """

    name: ClassVar[str] = "l2l-metasgd"

    inner_rate: float = setting(0.1, "where every rate starts", above=0)
    first_order: bool = setting(False, FIRST_ORDER_HELP)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the network in the library's MetaSGD."""
        if _has_frozen(module):
            raise Invalid(
                f"{self.name} cannot adapt around frozen weights: the library's MetaSGD differentiates all "
                "of them; use metasgd, or a network whose parameters all require a gradient"
            )
        metasgd = learn2learn().algorithms.MetaSGD
        return cast(nn.Module, metasgd(module, lr=self.inner_rate, first_order=self.first_order))


@dataclass(frozen=True, kw_only=True)
class L2lGbml(FromLibrary, CloneAdapt):
    """Learned gradient transforms by `learn2learn.algorithms.GBML`.

    transform "metacurvature": E. Park, J. Oliva: Meta-Curvature, NeurIPS 2019; "kronecker": S. Arnold,
    S. Iqbal, F. Sha: When MAML Can Adapt Fast and How to Assist When It Cannot, AISTATS 2021.
    """

    name: ClassVar[str] = "l2l-gbml"

    transform: str = setting(
        "metacurvature", "how gradients become updates", choices=("metacurvature", "kronecker")
    )
    first_order: bool = setting(False, FIRST_ORDER_HELP)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the network in the library's GBML."""
        library = learn2learn()
        transform = {
            "metacurvature": library.optim.MetaCurvatureTransform,
            "kronecker": library.optim.KroneckerTransform(library.nn.KroneckerLinear),
        }[self.transform]
        gbml = library.algorithms.GBML(
            module,
            transform=transform,
            lr=self.inner_rate,
            first_order=self.first_order,
            allow_nograd=_has_frozen(module),
        )
        return cast(nn.Module, gbml)


@dataclass(frozen=True, kw_only=True)
class L2lProtoNet(FromLibrary, Algorithm):
    """Prototypical networks by `learn2learn.nn.PrototypicalClassifier`.

    J. Snell, K. Swersky, R. Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017. Departure from
    the library's Lightning module: support and queries are embedded one after the other, as `protonet`
    does with train_statistics = "queries".
    """

    name: ClassVar[str] = "l2l-protonet"

    train_ways: int = setting(0, "classes of a training task; 0: as in the test", at_least=0)
    rate: float = setting(1e-3, "learning rate of Adam", above=0)
    distance: str = setting("euclidean", "between queries and prototypes", choices=("euclidean", "cosine"))

    def train_protocol(self, test: Protocol) -> Protocol:
        """Return the test's protocol with this algorithm's own ways."""
        return test.with_ways(self.train_ways) if self.train_ways else test

    def build(self, workload: Workload, network: Network | None, device: Device) -> EmbedFitLearner:
        """Build the learner of an embedding: the network without its head."""
        classifier = learn2learn().nn.PrototypicalClassifier
        module = build_network(self.name, network, workload, device, outputs=None)
        return EmbedFitLearner(
            module,
            adam(module, self.rate, self.name, workload),
            lambda: classifier(distance=self.distance),
        )


@dataclass(frozen=True, kw_only=True)
class L2lMetaOptNet(FromLibrary, Algorithm):
    """MetaOptNet by `learn2learn.nn.SVClassifier`: a support vector machine on learned features.

    K. Lee, S. Maji, A. Ravichandran, S. Soatto: Meta-Learning with Differentiable Convex Optimization, CVPR
    2019. The library's classifier computes in float32 only; on a backend of another float type the
    features are rounded to float32 for it.
    """

    name: ClassVar[str] = "l2l-metaoptnet"

    train_ways: int = setting(0, "classes of a training task; 0: as in the test", at_least=0)
    rate: float = setting(1e-3, "learning rate of Adam", above=0)
    regularisation: float = setting(0.1, "C of the support vector machine", above=0)
    iterations: int = setting(15, "iterations of the quadratic solver at most", at_least=1)
    normalise: bool = setting(False, "scale features to unit length")

    def train_protocol(self, test: Protocol) -> Protocol:
        """Return the test's protocol with this algorithm's own ways."""
        return test.with_ways(self.train_ways) if self.train_ways else test

    def build(self, workload: Workload, network: Network | None, device: Device) -> EmbedFitLearner:
        """Build the learner of an embedding: the network without its head."""
        classifier = learn2learn().nn.SVClassifier
        module = build_network(self.name, network, workload, device, outputs=None)
        return EmbedFitLearner(
            module,
            adam(module, self.rate, self.name, workload),
            lambda: classifier(
                C_reg=self.regularisation, max_iters=self.iterations, normalize=self.normalise
            ),
            dtype=torch.float32,
        )
