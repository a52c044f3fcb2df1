"""The parameters that a cell's learner has, counted here: `verify --deep` compares them with its result's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from metabench.contracts import Learner
from metabench.plugins import Registry
from metabench.publishing.findings import Finding
from metabench.publishing.installation import Installation
from metabench.publishing.members import Member
from metabench.records.cell import Cell, Workload
from metabench.runner.imports import require_allowed_imports


def count_parameters(registry: Registry, cell: Cell, allow_import: Collection[str] = ()) -> int:
    """Build the learner of a cell and count. Loads torch.

    Raises RequestError where it is not installed, or would import a module that is not allowed.
    """
    require_allowed_imports(registry, [cell], allow_import)
    import torch

    from metabench.device.device import Device

    dataset = registry.make("dataset", cell.dataset)
    network = registry.make("network", cell.network) if cell.network else None
    algorithm = registry.make("algorithm", cell.algorithm)
    workload = Workload(
        dataset.describe(), cell.train, cell.test, cell.planned_steps, cell.budget.tasks, cell.seed
    )
    torch.manual_seed(cell.seed)
    learner: Learner = algorithm.build(workload, network, Device())
    return sum(parameter.numel() for parameter in learner.parameters())


def parameter_findings(
    members: Sequence[Member], cells: Mapping[str, Cell], installation: Installation,
    allow_import: Sequence[str] = (),
) -> Iterator[Finding]:  # fmt: skip
    """Results whose learner has another number of parameters here; cells: one of each configuration.

    Where another version of the algorithm or the network made the result, it is no error.
    """
    measured = [member for member in members if member.scored]
    configurations = sorted({member.configuration for member in measured})
    answers = installation.parameters(
        [cells[configuration] for configuration in configurations], allow_import
    )
    counts = dict(zip(configurations, answers, strict=True))
    named: set[str] = set()
    for member in measured:
        count, problem = counts[member.configuration]
        if problem and member.configuration not in named:
            named.add(member.configuration)
            what = f"its learner could not be built here: {problem}"
            yield Finding(member.path, "parameters", what, serious=False)
        stored = member.row["parameters"]
        if count is not None and count != stored:
            same = _same_versions(cells[member.configuration], installation)
            what = f"says {stored:,} parameters, its learner has {count:,} here"
            yield Finding(member.path, "parameters", what, serious=same)


def _same_versions(cell: Cell, installation: Installation) -> bool:
    components: Mapping[str, Any] = cell.components()
    return all(
        cell.plugins.get(kind)
        in (None, (installation.component(kind, components[kind].name) or {}).get("source"))
        for kind in ("algorithm", "network")
        if kind in components
    )
