"""How far a mean score would move if the test split had other classes: its variance over redrawn classes.

Test tasks redraw the same few classes, so their scores are not independent: an interval over tasks holds
for more tasks of these classes, not for others. The model is one of multiple membership: score = mean +
effects of the task's classes + rest, where the effects have a variance of their own, and so have the effects
of groups of classes (alphabets). The variances come from quadratic forms by the method of moments, without a
distribution; the variance of the mean and the degrees of freedom of its estimate follow from them.

Sources: R. Lafargue et al., arXiv 2409.02850 (why intervals over tasks are too narrow); A. Owen, Annals of
Applied Statistics 1 (2007) (redrawing the rows and columns of a table); Searle, Casella and McCulloch,
"Variance Components" (1992), 5.3 and 11.1 (moments of quadratic forms); W. Browne, H. Goldstein and
J. Rasbash, Statistical Modelling 1 (2001) (multiple membership); W. Hoeffding, Annals of Mathematical
Statistics 19 (1948) (a mean over choices of classes varies with the sum of the classes' own effects).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

LEAST_GROUPS = 8
"""From fewer groups their variance cannot be known: then the classes are redrawn, and the groups stay."""

LEAST_UNITS = 8
"""From fewer classes their variance cannot be known either."""

LEAST_SPARE = 2.0
"""So many times the classes of a task there must be at least; else tasks hardly differ in their classes."""

SINGULAR = 1e-9
"""Components are told apart from this fraction of the largest on of their moments' eigenvalues."""

LEAST_FREEDOM = 5.0
"""Degrees of freedom at least. Where classes hardly matter an estimate of their variance says little, and
fewer degrees make intervals of up to five times the width that is needed."""


class Variance(NamedTuple):
    """The variance of a mean score over redrawn classes and tasks, and the freedom of its estimate."""

    of_mean: Array
    freedom: Array


@dataclass(frozen=True, eq=False)
class Redraw:
    """Which units (classes, or drawings that several classes share) each test task is made of.

    members: [tasks, units] how many of a task's classes are of each unit; groups: [units] the group of
    each unit, without elements where none is redrawn.
    """

    members: Array
    groups: Numbers

    @classmethod
    def of(cls, units: Sequence[Sequence[int]], groups: Sequence[int] = ()) -> Redraw | None:
        """Return the redraw of tasks by the units of their classes; None where it says nothing of others.

        groups: of each unit by its number; of fewer than `LEAST_GROUPS` the units are redrawn. Nothing is
        known of others where tasks have no classes, few, or nearly all of them.
        """
        ways = np.array([len(of_task) for of_task in units])
        if not len(ways) or not ways.any():
            return None
        numbers, inverse = np.unique(np.concatenate(units), return_inverse=True)
        if len(numbers) < max(LEAST_UNITS, LEAST_SPARE * ways.max()):
            return None
        members = np.zeros((len(ways), len(numbers)))
        np.add.at(members, (np.repeat(np.arange(len(ways)), ways), inverse), 1)
        of_units = np.asarray(groups, dtype=np.int64)[numbers] if len(groups) else np.empty(0, np.int64)
        present, of_units = np.unique(of_units, return_inverse=True)
        return cls(members, of_units if len(present) >= LEAST_GROUPS else np.empty(0, np.int64))

    @property
    def units(self) -> int:
        """How many units the tasks are made of."""
        return int(self.members.shape[1])

    @property
    def group_count(self) -> int:
        """How many groups are redrawn; 0: the units are, whatever their groups."""
        return len(set(self.groups.tolist()))

    @property
    def what(self) -> str:
        """What is redrawn, in words: "106 classes"."""
        return f"{self.group_count} groups of classes" if len(self.groups) else f"{self.units} classes"

    def projections(self, scores: ArrayLike) -> list[Array]:
        """Return what quadratic forms are the squares of: [..., tasks], [..., units] and [..., groups]."""
        y = np.asarray(scores, dtype=np.float64)
        centred = y - y.mean(axis=-1, keepdims=True)
        parts = [centred, centred @ self.members]
        return [*parts, parts[1] @ self._in_groups] if len(self.groups) else parts

    def variance(self, scores: ArrayLike) -> Variance:
        """Return the variance of the mean of scores [..., tasks]."""
        return self.variance_from_squares([np.square(part).sum(-1) for part in self.projections(scores)])

    def variance_from_squares(self, squares: Sequence[Array]) -> Variance:
        """Return the variance of a mean from the sums of squares of projections."""
        components = self.components(squares)
        over_tasks = squares[0] / (len(self.members) - 1) / len(self.members)
        of_mean = np.maximum(np.tensordot(self._shares, components, 1), over_tasks)
        spread = 2 * np.einsum("i...,ij,j...->...", components, self._products, components)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(spread > 0, 2 * np.square(of_mean) / spread, len(self.members) - 1.0)
        return Variance(of_mean, np.clip(freedom, LEAST_FREEDOM, len(self.members) - 1.0))

    def components(self, squares: Sequence[Array]) -> Array:
        """Return the variances of rest, units and groups from the sums of squares of projections.

        None is below zero: the last is solved for first, and those before it without it.
        """
        left = np.stack(squares)
        components = np.zeros_like(left)
        for last in range(len(squares) - 1, -1, -1):
            solved = _inverse(self._moments[: last + 1, : last + 1])[last]
            components[last] = np.maximum(np.tensordot(solved, left[: last + 1], 1), 0.0)
            left -= np.multiply.outer(self._moments[:, last], components[last])
        return components

    @cached_property
    def _in_groups(self) -> Array:
        """Return [units, groups]: 1 where a unit is of a group."""
        return np.eye(self.group_count)[self.groups]

    @cached_property
    def _matrices(self) -> tuple[list[Array], int]:
        """Return the centred covariance of each component in the smaller of two spaces, and an extent.

        In the space of the tasks it is P K P, where P centres and K counts the units (or groups) that two
        tasks share. In that of the units it is a matrix with the same eigenvalues other than zero, so that
        traces of products agree but for the rest's, which has `extent` more eigenvalues of 1.
        """
        tasks, units = self.members.shape
        centred = self.members - self.members.mean(axis=0)
        if units <= tasks:
            gram = centred.T @ centred
            own = [np.eye(units), gram]
            return [*own, gram @ self._in_groups @ self._in_groups.T] if len(self.groups) else own, (
                tasks - 1 - units
            )
        own = [np.eye(tasks), centred @ centred.T]
        by_group = centred @ self._in_groups if len(self.groups) else np.empty((tasks, 0))
        return [*own, by_group @ by_group.T] if len(self.groups) else own, -1

    @cached_property
    def _moments(self) -> Array:
        """Return what a component of variance 1 gives each quadratic form, [forms, components]."""
        matrices, extent = self._matrices
        traces = np.array([[float((a * b.T).sum()) for b in matrices] for a in matrices])
        traces[0, 0] += extent
        return traces

    @cached_property
    def _shares(self) -> Array:
        """Return what a component of variance 1 gives the variance of the mean."""
        tasks = len(self.members)
        used = self.members.sum(axis=0)
        shares = [1 / tasks, float(np.square(used / tasks).sum())]
        if len(self.groups):
            shares.append(float(np.square(used @ self._in_groups / tasks).sum()))
        return np.array(shares)

    @cached_property
    def _products(self) -> Array:
        """Return half of what two components of variance 1 give the variance of the estimate."""
        matrices, extent = self._matrices
        weights = _inverse(self._moments) @ self._shares
        form = sum(weight * matrix for weight, matrix in zip(weights, matrices, strict=True))
        formed = [form @ matrix for matrix in matrices]
        products = np.array([[float((a * b.T).sum()) for b in formed] for a in formed])
        products[0, 0] += extent * weights[0] ** 2
        return products


def _inverse(moments: Array) -> Array:
    """Return the inverse, or where components cannot be told apart the one that shares them out equally.

    Units and groups cannot where tasks have all or none of their units in common, as Lake's runs have.
    """
    return np.asarray(np.linalg.pinv(moments, rcond=SINGULAR, hermitian=True), dtype=np.float64)
