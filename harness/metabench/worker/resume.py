"""Saves a running cell, and goes on with one that was interrupted; see `metabench.worker.checkpoint`."""

from __future__ import annotations

from metabench.contracts import Learner
from metabench.engine.lift import Lifted
from metabench.errors import Invalid, StoreError
from metabench.records.progress import CheckpointEvent, ResumeEvent
from metabench.records.result import Training
from metabench.worker.cell_run import CellRun
from metabench.worker.checkpoint import Checkpoint
from metabench.worker.energy import EnergyClock


def resume(run: CellRun) -> None:
    """Go on from the cell's checkpoint, where one was made by the same cell, code and kind of machine."""
    if run.checkpoint is None:
        return
    checkpoint, reason = run.checkpoint.read(any_maker=run.device.rank > 0)
    if not run.device.agree(checkpoint is not None):
        if reason:
            run.emit(ResumeEvent(0, reason))
        return
    if checkpoint is None:
        raise StoreError(f"{run.checkpoint.path}: rank {run.device.rank} must see what rank 0 sees; {reason}")
    steps = checkpoint.training.steps
    try:
        _restore(run, checkpoint)
    except (Invalid, KeyError, ValueError) as error:
        raise StoreError(f"{run.checkpoint.path}: does not fit the learner: {error}; remove it") from error
    run.emit(ResumeEvent(steps))


def _restore(run: CellRun, checkpoint: Checkpoint) -> None:
    training = checkpoint.training
    run.learner.load_state_dict(checkpoint.state)
    if not checkpoint.trained:
        run.learner.load_training_state(checkpoint.training_state)
    for name, lifted in lifted_networks(run.learner).items():
        lifted.choose(checkpoint.choices.get(name, {}))
    run.training = Training(**{**vars(training), "resumed": (*training.resumed, training.steps)})
    run.best_state, run.trained = checkpoint.best_state, checkpoint.trained
    run.energy = EnergyClock(run.device, checkpoint.energy)
    run.training_energy = EnergyClock(run.device, checkpoint.training_energy)


def save_when_due(run: CellRun) -> None:
    """Write a checkpoint where it is time to; all ranks call it between two blocks, or after training."""
    file, device = run.checkpoint, run.device
    if file is None or not device.agree(file.due() or (run.trained and file.written)):
        return
    run.energy.pause()
    run.training_energy.pause()
    joules, training_joules = run.energy.joules(), run.training_energy.joules()
    if device.rank == 0:
        before = file.problem
        file.write(_checkpoint(run, run.training, joules, training_joules))
        if file.problem and file.problem != before:
            run.emit(CheckpointEvent(run.training.steps, file.problem))
    device.agree(True)  # nobody begins a step, whose time counts, before the file is written
    run.energy.resume()
    if not run.trained:
        run.training_energy.resume()


def save_interrupted(run: CellRun) -> None:
    """Write a checkpoint after the last whole step, from a thread of rank 0 while the others may be gone."""
    with run.guard.still() as still:
        if not still or run.checkpoint is None or not run.cell.trains:
            return
        training = run.training if run.with_open_block is None else run.with_open_block()
        if training.steps:
            checkpoint = _checkpoint(run, training, run.energy.own_joules(), run.training_energy.own_joules())
            run.checkpoint.write(checkpoint)


def _checkpoint(
    run: CellRun, training: Training, joules: dict[str, float], training_joules: dict[str, float]
) -> Checkpoint:
    return Checkpoint(
        training=training,
        state=run.learner.state_dict(),
        best_state=None if run.trained else run.best_state,
        training_state={} if run.trained else run.learner.training_state(),
        trained=run.trained,
        energy=joules,
        training_energy=training_joules,
        choices={name: lifted.choices for name, lifted in lifted_networks(run.learner).items()},
    )


def lifted_networks(learner: Learner) -> dict[str, Lifted]:
    """Return the networks that a learner runs over tasks, by the name of its attribute."""
    attributes = getattr(learner, "__dict__", {})
    return {name: value for name, value in attributes.items() if isinstance(value, Lifted)}
