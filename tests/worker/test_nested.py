"""Nested states as plain JSON and tensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from metabench.worker.nested import join, take_apart


def there_and_back(value: Any) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    return join(json.loads(json.dumps(take_apart(value, tensors))), tensors)


def test_state_of_an_optimizer_comes_back_to_the_bit() -> None:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for _ in range(3):
        module(torch.randn(4, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    state = optimizer.state_dict()
    back = there_and_back(state)
    assert back["param_groups"] == state["param_groups"]
    assert back["param_groups"][0]["betas"] == (0.9, 0.999)
    for number, moments in state["state"].items():
        assert all(torch.equal(back["state"][number][name], moment) for name, moment in moments.items())
    assert there_and_back(schedule.state_dict()) == schedule.state_dict()


def test_plain_values_keep_their_type() -> None:
    value = {1: [True, None, "x"], "y": (0.1, float("inf"), 10**20), "tensor": {"dict": []}}
    assert there_and_back(value) == value
    assert type(there_and_back(value)[1][0]) is bool


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, lambda: 0])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"got {type(value).__name__}"):
        there_and_back([value])


@pytest.mark.parametrize("plain", [{}, {"set": []}, {"tensor": "t9"}, {"dict": [1]}, {"list": 3}])
def test_other_json_is_refused(plain: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        join(plain, {})
