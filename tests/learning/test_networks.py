"""A module of any make becomes a network: by the name of its last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from helpers.pretrained import Pretrained, Residual
from helpers.problems import FLOAT64, TEST, build
from metabench import Invalid, Network
from metabench.learning import with_head
from metabench.testing import check_network
from metabench_plugins.algorithms.protonet import ProtoNet


@dataclass(frozen=True, kw_only=True)
class Whole(Network):
    """A module that is in one piece."""

    name: ClassVar[str] = "whole"

    def build(self, input_shape: tuple[int, ...], outputs: int | None) -> nn.Module:
        return Residual(input_shape[0], outputs or 1)


def test_a_pretrained_network_keeps_the_contract() -> None:
    for network in (Pretrained(), Pretrained(frozen=("features.conv1", "features.bn1"))):
        check_network(network, input_shapes=[(1, 8, 8), (3, 6, 6)])


def test_the_last_layer_becomes_the_head() -> None:
    x = torch.randn(2, 1, 8, 8)
    module = Residual(1, 5).eval()
    expected, layer = module(x), module.fc

    same = with_head(module, "fc", 5)

    assert same.head is layer
    torch.testing.assert_close(same(x), expected)
    other = with_head(Residual(1, 5), "fc", 3)
    assert isinstance(other.head, nn.Linear)
    assert (other.head.in_features, other.head.out_features) == (4, 3)
    assert isinstance(with_head(Residual(1, 5), "fc", None).head, nn.Identity)


def test_a_head_within_a_sequence_is_named_by_its_place() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))

    headed = with_head(module, "1.1", 2)

    assert headed.features(torch.zeros(1, 2, 2)).shape == (1, 3)


def test_a_name_that_is_no_linear_layer_is_answered_with_those_there_are() -> None:
    with pytest.raises(Invalid, match="no linear layer 'classifier' to be its head; it has 'fc'"):
        with_head(Residual(1, 5), "classifier", 5)


def test_a_module_in_one_piece_is_refused_with_the_way_in() -> None:
    with pytest.raises(Invalid, match=r"'whole': its module has no \.features; return .*with_head"):
        build(ProtoNet(), Whole(), TEST, device=FLOAT64)
