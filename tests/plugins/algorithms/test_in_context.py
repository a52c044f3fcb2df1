"""The in-context learner: what it reads of a table, and that training on random tables teaches it."""

import torch

from metabench import Examples, Protocol, Workload
from metabench.device import Device
from metabench_plugins.algorithms.in_context import InContext, InContextLearner, compressed, standardised
from metabench_plugins.datasets.table_prior import TablePrior

SHAPE = Protocol(2, 8, 8)


def build(steps: int) -> InContextLearner:
    torch.manual_seed(0)
    workload = Workload(TablePrior(width=4).describe(), SHAPE, SHAPE, steps, 8)
    return InContext(dim=16, layers=1, rate=3e-3, warm_up=5).build(workload, None, Device())


def test_predictions_do_not_depend_on_the_units_of_a_table() -> None:
    tasks = TablePrior(width=4).load(Device()).episodes("test", SHAPE, range(4), 0)
    learner, unit = build(0), torch.tensor([1.0, 1e3, 1e-2, 5.0])
    plain = learner.predict(learner.adapt(tasks.support), tasks.query.x)
    scaled = Examples(tasks.support.x * unit + 3 * unit, tasks.support.y)
    assert torch.allclose(
        learner.predict(learner.adapt(scaled), tasks.query.x * unit + 3 * unit), plain, atol=1e-3
    )


def test_constant_columns_are_left_out_and_few_columns_weigh_as_many() -> None:
    support, query = torch.randn(1, 6, 4), torch.full((1, 2, 4), 9.0)
    support[..., 2:] = 7.0
    rows, others = standardised(support, query)
    assert not rows[..., 2:].any()
    assert not others[..., 2:].any()
    assert torch.allclose(rows.square().sum(2).mean(), torch.tensor(4.0), atol=0.1)


def test_values_far_out_are_compressed_in_order() -> None:
    x = torch.tensor([-500.0, -5.0, 0.3, 5.0, 50.0])
    y = compressed(x)
    assert torch.equal(y[1:4], x[1:4])
    assert y[4] > 5.0
    assert y.abs().max() < 10.0


def test_training_on_random_tables_improves_on_others() -> None:
    learner, source = build(60), TablePrior(width=4).load(Device())
    test = source.episodes("test", SHAPE, range(100), 0)

    def loss() -> float:
        with torch.no_grad():
            prediction = learner.predict(learner.adapt(test.support), test.query.x)
        return float(-prediction.gather(2, test.query.y[..., None]).mean())

    before = loss()
    for step in range(60):
        learner.learn(source.episodes("train", SHAPE, range(8 * step, 8 * step + 8), 0), step, 60)
        learner.update(step, 60)
    assert loss() < before - 0.02
