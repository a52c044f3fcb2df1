"""Real per-task scores of cheap learners on any classes of Omniglot, thousands of tasks a second.

The learners are prototypical networks that were trained on the letters of `glyphs`, one per seed, with
statistics of meta-train in the test: an image has one embedding, whatever task it is in. So all 32,460
drawings are embedded once, and every choice of characters is another test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench import Device, Protocol, Source, Workload
from metabench.data.micro_batches import micro_batches
from metabench.data.order import draw_episodes
from metabench.data.tensor_source import TensorSource
from metabench.learning import EmbeddingLearner
from metabench_plugins.algorithms.protonet import ProtoNet
from metabench_plugins.datasets.glyphs import Glyphs
from metabench_plugins.datasets.omniglot import DRAWERS, Omniglot
from metabench_plugins.networks.conv4 import Conv4

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

TRAINING = Protocol(5, 1, 5)
TASKS_A_STEP = 8
IMAGES_AT_ONCE = 2000
TASKS_AT_ONCE = 600


@dataclass(frozen=True)
class Pool:
    """Embedded drawings [networks, characters, drawers, width], and each character's alphabet by number."""

    features: Tensor
    alphabets: Numbers

    @property
    def characters(self) -> int:
        """How many characters there are to choose from."""
        return len(self.alphabets)

    def scores(self, networks: Sequence[int], tasks: Numbers, shots: int, queries: int, seed: int) -> Array:
        """Return accuracies [networks, tasks] of tasks [tasks, ways] of characters, a share in 0..1.

        seed: of the drawings of each character.
        """
        rng = np.random.default_rng(seed)
        drawings = rng.permuted(np.tile(np.arange(DRAWERS), (*tasks.shape, 1)), axis=-1)[
            ..., : shots + queries
        ]
        rows = torch.from_numpy(tasks[..., None] * DRAWERS + drawings)
        scores = [
            _accuracies(self.features[network].flatten(0, 1), rows_of_batch, shots)
            for network in networks
            for rows_of_batch in torch.split(rows, TASKS_AT_ONCE)
        ]
        return np.concatenate(scores).reshape(len(networks), len(tasks))


def _accuracies(features: Tensor, rows: Tensor, shots: int) -> Array:
    """Return accuracies [tasks] of the nearest class mean; rows [tasks, ways, drawings] of features."""
    embedded = features[rows]
    means = embedded[:, :, :shots].mean(2)
    queries = embedded[:, :, shots:].flatten(1, 2)
    nearest = torch.cdist(queries, means).argmin(-1)
    right = torch.arange(rows.shape[1]).repeat_interleave(rows.shape[2] - shots)
    return cast(Array, (nearest == right).double().mean(1).numpy())


def make_pool(networks: int, steps: int, width: int) -> Pool:
    """Train so many networks of this width on letters, and embed all of Omniglot with each."""
    letters, omniglot = Glyphs().load(Device()), Omniglot(rotations=False).load(Device())
    assert isinstance(omniglot, TensorSource)
    names = sorted((name, split) for split, index in omniglot.splits.items() for name in index.names)
    images = omniglot.examples
    alphabets = np.unique([name.partition("/")[0] for name, _ in names], return_inverse=True)[1]
    features = torch.stack([_embed(_train(letters, seed, steps, width), images) for seed in range(networks)])
    return Pool(features.view(networks, len(names), DRAWERS, -1), alphabets.astype(np.int64))


def _train(letters: Source, seed: int, steps: int, width: int) -> EmbeddingLearner:
    workload = Workload(Glyphs().describe(), TRAINING, TRAINING, steps, TASKS_A_STEP, seed)
    torch.manual_seed(seed)
    learner = ProtoNet(rate=0.005).build(workload, Conv4(width=width), Device())
    for step in range(steps):
        numbers = range(step * TASKS_A_STEP, (step + 1) * TASKS_A_STEP)
        learner.learn(draw_episodes(letters, "train", TRAINING, numbers, seed), step, steps)
        learner.update(step, steps)
    learner.finish(micro_batches(letters, TRAINING, seed))
    return learner


def _embed(learner: EmbeddingLearner, images: Tensor) -> Tensor:
    """Return the features [images, width] of uint8 images."""
    with torch.no_grad():
        parts = [learner.embed(part[None].float() / 255)[0] for part in torch.split(images, IMAGES_AT_ONCE)]
    return torch.cat(parts)
