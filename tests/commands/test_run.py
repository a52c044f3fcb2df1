"""`metabench run` as a person uses it: the real command, real workers, a third party's plugins."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from helpers.shell import Shell
from metabench.records.result import Result

CONV = """
name = "conv"
version = 1

[[cells]]
algorithm = "maml"
network = "conv4"
dataset = "glyphs"
test = {ways = 5, shots = 1, queries = 3}
budget = {steps = 6, tasks = 4, validate_every = 3, validation_tasks = 8}
evaluation = {tasks = 24}
backend = {name = "cpu", threads = 2}
"""


def by_mishap(shell: Shell) -> dict[str, Result]:
    return {str(r.cell.algorithm.settings["how"]): r for r in shell.results("mishaps-v1")}


def mishaps(name: str, *how: str, more: str = "") -> str:
    """A suite of these mishaps, one cell each."""
    text = (Path(__file__).parents[1] / "toy_package/toy_metabench/suites/mishaps.toml").read_text()
    head, _, _ = text.partition("[[cells]]")
    cells = (f'[[cells]]\nalgorithm = {{name = "mishap", how = "{mishap}"{more}}}\n' for mishap in how)
    return head.replace('"mishaps"', f'"{name}"') + "".join(cells)


def workers(folder: Path) -> list[int]:
    """Processes whose command line names something in this folder."""
    processes = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and any(str(folder) in part for part in process.info["cmdline"] or []):
            processes.append(process.pid)
    return processes


def wait_until(true: object, seconds: float = 60.0) -> None:
    """Waits until `true()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.mark.slow
def test_each_mishap_gives_one_typed_result_and_the_run_goes_on(shell: Shell) -> None:
    done = shell.run("run", "mishaps", "--timeout", "20", "--skip", "id=none", check=2)
    assert "no cell has id 'none'" in done.stderr or "is no axis" in done.stderr
    done = shell.run("run", "mishaps", "--timeout", "20", check=1)
    results = by_mishap(shell)
    assert {how: r.status for how, r in results.items()} == {
        "kill": "failed", "raise": "failed", "memory": "out-of-memory", "nan": "diverged",
        "sleep": "timed-out", "none": "ok",
    }  # fmt: skip
    assert results["kill"].signal == "SIGKILL"
    assert "about to be killed" in results["kill"].log_tail[-1]
    assert results["raise"].reason == "RuntimeError: the toy broke"
    assert any("the toy broke" in line for line in results["raise"].log_tail)
    files = [line for line in results["raise"].log_tail if line.lstrip().startswith("File ")]
    assert files
    assert not [line for line in files if 'File "/' in line]  # results are published
    assert "nan" in results["nan"].reason
    assert results["nan"].training is not None  # what was measured before is kept
    assert "timeout of 20 s" in results["sleep"].reason
    assert results["sleep"].log_tail[-1] == "falls asleep"
    assert "the toy broke" in done.stderr
    assert any("memory" in line for line in results["memory"].log_tail)
    assert any("nan" in line for line in results["nan"].log_tail)
    assert workers(shell.folder) == []
    for result in results.values():  # also those that the parent wrote for a worker that could not
        assert result.started
        assert result.environment["git"] == results["none"].environment["git"]
    logs = {
        how: shell.folder / f"results/local/mishaps-v1/jobs/{r.cell.id}/log" for how, r in results.items()
    }
    assert {how for how, log in logs.items() if log.exists()} == results.keys() - {"none"}
    assert f"its log: {logs['nan'].relative_to(shell.folder)}" in done.stderr
    assert "about to diverge" in logs["nan"].read_text()
    assert "about to run out of memory" in logs["memory"].read_text()

    again = shell.run("run", "mishaps", "--timeout", "20", "--dry-run").stderr
    assert "3 of 6 cells to run" in again  # failed and timed out are tried again; the rest stands


def test_expected_outcome_is_no_failure(shell: Shell) -> None:
    suite = mishaps("frontier", "memory") + 'expect = ["out-of-memory"]\n'
    (shell.folder / "frontier.toml").write_text(suite)
    shell.run("run", "frontier.toml", "--quiet", check=0)
    (result,) = shell.results("frontier-v1")
    assert result.status == "out-of-memory"


def test_network_that_does_not_fit_ends_the_cell_before_training(shell: Shell) -> None:
    text = (Path(__file__).parents[1] / "toy_package/toy_metabench/suites/toy.toml").read_text()
    narrow = text.replace('"toy"', '"narrow"').replace('"toy-linear"', '{name = "toy-linear", narrow = true}')
    (shell.folder / "narrow.toml").write_text(narrow)
    shell.run("run", "narrow.toml", "--quiet", check=1)
    (result,) = shell.results("narrow-v3")
    assert (result.status, result.reason) == ("invalid", "toy-linear: its output is narrower than the target")
    assert result.training is None


def test_absent_hardware_is_skipped_with_the_reason(shell: Shell) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    shell.run("run", "toy", "--backend", "cuda", "--quiet", check=0)
    (result,) = shell.results("toy-v3")
    assert result.status == "skipped"
    assert "backend 'cuda'" in result.reason
    assert result.environment["machine"]
    shell.run("run", "toy", "--backend", "cuda", "--quiet", check=0)
    assert not (shell.folder / "results/local/toy-v3/aside").exists()  # nothing was measured, nothing to keep


def test_more_ranks_than_tasks_is_a_skip(shell: Shell) -> None:
    backend = "cpu-ranks:ranks=5,threads=1,oversubscribe=true"
    shell.run("run", "toy", "--backend", backend, "--quiet", check=0)
    (result,) = shell.results("toy-v3")
    assert result.status == "skipped", result.reason
    assert "5 ranks are more than the 4 tasks" in result.reason


def test_rank_that_falls_is_named_and_leaves_no_process(shell: Shell) -> None:
    suite = mishaps("fallen", "raise", "kill", more=", on_rank = 1")
    ranks = suite.replace('{name = "cpu"', '{name = "cpu-ranks", ranks = 2, oversubscribe = true')
    (shell.folder / "fallen.toml").write_text(ranks)
    shell.run("run", "fallen.toml", "--quiet", "--timeout", "90", check=1)
    results = {r.cell.algorithm.settings["how"]: r for r in shell.results("fallen-v1")}
    assert {r.status for r in results.values()} == {"failed"}
    assert "the toy broke" in results["raise"].reason
    assert results["kill"].reason == "rank 1 was ended by SIGKILL"
    assert workers(shell.folder) == []


@pytest.mark.parametrize(
    "backend",
    ["cpu:threads=1", pytest.param("cpu-ranks:ranks=2,threads=1,oversubscribe=true", marks=pytest.mark.slow)],
    ids=["cpu", "cpu-ranks"],
)
def test_killed_runner_leaves_no_orphan_and_the_same_command_goes_on(
    shell: Shell, backend: str, request: pytest.FixtureRequest
) -> None:
    (shell.folder / "order.toml").write_text(mishaps("order", "none", "sleep"))
    run = shell.argv("run", "order.toml", "--quiet", "--backend", backend)
    jobs = shell.folder / "results/local/order-v1/jobs"

    def asleep() -> bool:
        return any("asleep" in log.read_text() for log in jobs.glob("*/log"))

    first = subprocess.Popen(run, cwd=shell.folder, env=shell.environment)
    request.addfinalizer(first.kill)  # also where an assertion below fails
    wait_until(asleep, 120)
    assert "another run writes here" in shell.run(*run[3:], check=1).stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: workers(shell.folder) == [], 30)
    assert [r.status for r in shell.results("order-v1")] == ["ok"]
    (before,) = (shell.folder / "results/local/order-v1").glob("*.json")
    stamp = before.stat().st_mtime_ns
    shutil.rmtree(jobs)  # so that the wait below is for the second run's log

    second = subprocess.Popen(
        run, cwd=shell.folder, env=shell.environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    )  # fmt: skip
    request.addfinalizer(second.kill)
    wait_until(asleep, 120)
    second.send_signal(signal.SIGINT)
    _, output = second.communicate(timeout=30)
    assert second.returncode == 130, output
    assert "the same command runs the others" in output
    assert before.stat().st_mtime_ns == stamp
    wait_until(lambda: workers(shell.folder) == [], 30)


@pytest.mark.parametrize("more", [["--quiet"], ["--rerun"]], ids=["quiet", "rerun"])
def test_truncated_result_is_named_and_set_aside_by_a_run_alone(ran: Shell, more: list[str]) -> None:
    folder = ran.folder / "results/local/toy-v3"
    (path,) = folder.glob("*.json")
    path.write_text(path.read_text()[:1000])

    done = ran.run("run", "toy", "--dry-run", *more)
    assert f"{path.name}: truncated" in done.stderr
    assert not (folder / "aside").exists()

    done = ran.run("run", "toy", *more)
    assert f"{path.name}: truncated" in done.stderr
    assert "it was moved to" in done.stderr
    assert len(list((folder / "aside").iterdir())) == 1
    assert ran.results("toy-v3")[0].status == "ok"


def test_same_seed_twice_gives_identical_scores_and_rerun_keeps_the_old_result(ran: Shell) -> None:
    (first,) = ran.results("toy-v3")
    ran.run("run", "toy", "--quiet", "--rerun")
    (second,) = ran.results("toy-v3")
    assert first.scores is not None
    assert second.scores is not None
    assert first.started != second.started
    assert first.scores.per_task == second.scores.per_task
    assert len(list((ran.folder / "results/local/toy-v3/aside").iterdir())) == 1


def test_python_gives_the_same_as_a_data_frame(shell: Shell) -> None:
    program = (
        "import metabench; f = metabench.run('toy', quiet=True, seeds=[4]);"
        "print(list(f['algorithm']), list(f['seed']), list(f['status']))"
    )
    done = subprocess.run(
        [shell.python, "-c", program],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['toy-mean'] [4] ['ok']\n", done.stderr
    assert done.stderr == ""
    assert [r.cell.seed for r in shell.results("toy-v3")] == [4]
    assert reported_seeds(shell) == {"4"}


def reported_seeds(shell: Shell) -> set[str]:
    """The seeds of all results in the suite's report."""
    with (shell.folder / "results/local/toy-v3/report/results.csv").open(newline="") as file:
        return {row["seed"] for row in csv.DictReader(file)}


def test_report_covers_everything_stored_for_the_suite_not_this_selection(shell: Shell) -> None:
    shell.run("run", "toy", "--seeds", "0,1", "--quiet")
    shell.run("run", "toy", "--seeds", "0,1", "--only", "seed=1", "--quiet")
    assert reported_seeds(shell) == {"0", "1"}


def test_failure_is_said_with_its_log_even_when_quiet(shell: Shell) -> None:
    (shell.folder / "sad.toml").write_text(mishaps("sad", "raise"))
    done = shell.run("run", "sad.toml", "--quiet", check=1)
    (result,) = shell.results("sad-v1")
    log = f"results/local/sad-v1/jobs/{result.cell.id}/log"
    assert done.stderr == f"failed: {result.cell.id}: RuntimeError: the toy broke\n  its log: {log}\n"
    assert "the toy broke" in (shell.folder / log).read_text()


@pytest.mark.slow
def test_same_seed_twice_gives_identical_scores_of_a_convolutional_network(shell: Shell) -> None:
    (shell.folder / "conv.toml").write_text(CONV)
    runs = []
    for _ in range(2):
        shell.run("run", "conv.toml", "--quiet", "--rerun")
        (result,) = shell.results("conv-v1")
        assert result.scores is not None
        assert result.training is not None
        runs.append((result.scores.per_task, result.training.losses))
    assert runs[0] == runs[1]


def test_mistake_in_the_request_exits_with_2_before_anything_runs(shell: Shell) -> None:
    for wrong, message in [
        (["run", "quik"], "no suite is called 'quik'; did you mean 'quick'?"),
        (["run", "."], "a suite must be a file whose name ends in .toml, got '.'"),
        (["run", "toy", "--only", "algorithm=tooy"], "no cell has algorithm 'tooy'"),
        (["run", "toy", "--backend", "gpu"], "no backend is called 'gpu'"),
        (
            ["run", "toy", "--seeds", "a"],
            "must be integers or rising ranges with commas between them, such as 0-2 or 0,1,5, got 'a'",
        ),
        (["run", "toy", "--executor", "moon"], "no executor is called 'moon'"),
        (["run", "toy", "--executor", "local:grace=1"], "'local' has no setting 'grace'"),
        (["run", "no/such.toml"], "no suite file 'no/such.toml'"),
        (["show", "mamml"], "did you mean 'maml'?"),
        (["list", "algoritms"], "did you mean 'algorithms'?"),
    ]:
        assert message in shell.run(*wrong, check=2).stderr
    assert not (shell.folder / "results").exists()


def test_results_folder_that_cannot_be_written_says_so(shell: Shell) -> None:
    (shell.folder / "results").write_text("a file, not a folder")
    done = shell.run("run", "toy", "--quiet", check=1)
    assert "cannot be made" in done.stderr
    assert "choose another --results" in done.stderr


def test_quiet_says_nothing_and_plain_output_has_whole_lines(ran: Shell, toy_run: tuple[Path, str]) -> None:
    assert toy_run[1] == ""
    for form in ("md", "csv", "json"):
        assert list((ran.folder / "results/local/toy-v3/report").glob(f"*.{form}"))
    output = ran.run("run", "toy", "--rerun").stderr
    assert "toy-mean toy-linear toy-lines 1w4s cpu seed 0: starts" in output
    assert "\x1b" not in output
    assert "\r" not in output


def test_worker_imports_only_what_its_job_names(shell: Shell) -> None:
    program = (
        "import sys, json; from metabench.worker.__main__ import main; main([sys.argv[1]]);"
        "print(json.dumps([m for m in sys.modules if 'metabench' in m or '.' not in m]))"
    )
    from metabench.plugins import load
    from metabench.runner import make_plan
    from metabench.runner.jobs import Jobs  # the job file is what is wanted here, not a run

    suite = shell.folder / "small.toml"
    suite.write_text(
        'name = "small"\nversion = 1\n[[cells]]\n'
        'algorithm = "reptile"\nnetwork = "mlp"\ndataset = "sinusoid"\n'
        "test = {ways = 1, shots = 4, queries = 4}\n"
        "budget = {steps = 2, tasks = 2}\nevaluation = {tasks = 4}\n"
        'backend = {name = "cpu", threads = 1}\n'
    )
    plan = make_plan(str(suite), results=shell.folder, registry=load())
    plan.store.folder.mkdir(parents=True)
    (job,) = Jobs(plan.registry, plan.store, None, {}).prepare(plan.to_run)
    environment = {**shell.environment, **job.environment}
    done = subprocess.run(
        [*job.argv[:1], "-c", program, str(job.folder / "job.json")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "metabench_plugins.algorithms.reptile" in loaded
    unwanted = {"pandas", "matplotlib", "learn2learn", "gym", "metabench.plugins"}
    assert not {*unwanted, "metabench_plugins.learn2learn", "metabench_plugins.algorithms.maml"} & loaded
    datasets = {m for m in loaded if m.startswith("metabench_plugins.datasets.")}
    assert datasets == {"metabench_plugins.datasets.sinusoid", "metabench_plugins.datasets._waves"}
