"""The learned state that a cell starts from: the learner's, or its network's alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metabench.contracts import Network
from metabench.errors import Invalid, StoreError
from metabench.learning.base import require_equal_tensors
from metabench.records.cell import NETWORK_WEIGHTS
from metabench.results.states import read_state

IN_LEARNERS = "network."
"""How the names of a network's tensors begin in the state of a learner."""
HEAD = "head."
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_weights(weights: str, path: str) -> dict[str, Tensor]:
    """Return the tensors that the cell's field `weights` names; raises Invalid where the file has others."""
    if not path:
        raise Invalid(f"the file with the weights {weights[:12]}… must be at hand; name it in the suite")
    try:
        return read_state(Path(path), weights.removeprefix(NETWORK_WEIGHTS))
    except StoreError as error:
        raise Invalid(str(error)) from error


class PretrainedNetwork(Network):
    """Builds a network and loads tensors into it: those of a network, or of a learner that trained one.

    A head that the file lacks stays as it was drawn; one that the built network lacks is left out. Running
    statistics of norms that the file lacks stay as they were built.
    """

    name = "pretrained"

    def __init__(self, network: Network, tensors: Mapping[str, Tensor]) -> None:
        own = {n.removeprefix(IN_LEARNERS): t for n, t in tensors.items() if n.startswith(IN_LEARNERS)}
        vars(self).update(network=network, tensors=own or dict(tensors), name=network.name)

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        """Build the network and load the tensors; raise Invalid where names or shapes differ."""
        network: Network = vars(self)["network"]
        tensors: dict[str, Tensor] = vars(self)["tensors"]
        module = network.build(input_shape, outputs)
        own: dict[str, Any] = module.state_dict()
        kept = {name: t for name, t in tensors.items() if name in own or not name.startswith(HEAD)}
        headless = not any(name.startswith(HEAD) for name in tensors)
        kept |= {
            name: tensor
            for name, tensor in own.items()
            if name not in tensors and (name.endswith(STATISTICS) or (headless and name.startswith(HEAD)))
        }
        require_equal_tensors(own, kept, f"network {network.name!r}")
        module.load_state_dict(kept)
        return module
