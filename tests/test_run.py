"""`metabench run` as a person uses it: the real command, real workers, a third party's plugins."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import Shell
from metabench.result import Result


def by_mishap(shell: Shell) -> dict[str, Result]:
    return {str(r.cell.algorithm.settings["how"]): r for r in shell.results("mishaps-v1")}


def workers(folder: Path) -> list[int]:
    """Processes whose command line names something in this folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and any(str(folder) in part for part in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def wait_until(true: object, seconds: float = 60.0) -> None:
    """Waits until `true()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def test_third_party_package_is_listed_with_its_version_and_runs_its_suite(shell: Shell) -> None:
    listed = shell.run("list").stdout
    for name in ("toy-mean", "toy-linear", "toy-lines"):
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ")]
        assert "toy-metabench 1.2.3" in line
    assert "A third party's own suite" in listed
    done = shell.run("run", "toy")
    (result,) = shell.results("toy-v3")
    assert result.status == "ok"
    assert result.cell.plugins["algorithm"] == "toy-metabench 1.2.3"
    assert result.scores is not None
    assert len(result.scores.per_task) == 20
    assert result.training is not None
    assert result.training.losses[-1][1] < result.training.losses[0][1]
    assert "toy-mean" in done.stdout
    for form in ("md", "csv", "json"):
        assert list((shell.folder / "results/local/toy-v3/report").glob(f"*.{form}"))


def test_each_mishap_gives_one_typed_result_and_the_run_goes_on(shell: Shell) -> None:
    done = shell.run("run", "mishaps", "--timeout", "12", "--skip", "id=none", check=2)
    assert "no cell has id 'none'" in done.stderr or "is no axis" in done.stderr
    done = shell.run("run", "mishaps", "--timeout", "12", check=1)
    found = by_mishap(shell)
    assert {how: r.status for how, r in found.items()} == {
        "kill": "failed", "raise": "failed", "memory": "out-of-memory", "nan": "diverged",
        "sleep": "timed-out", "none": "ok",
    }  # fmt: skip
    assert found["kill"].signal == "SIGKILL"
    assert "about to be killed" in found["kill"].log_tail[-1]
    assert found["raise"].reason == "RuntimeError: the toy broke"
    assert any("the toy broke" in line for line in found["raise"].log_tail)
    assert "nan" in found["nan"].reason
    assert found["nan"].training is not None  # what was measured before is kept
    assert "timeout of 12 s" in found["sleep"].reason
    assert found["sleep"].log_tail[-1] == "falls asleep"
    assert "the toy broke" in done.stderr
    assert workers(shell.folder) == []
    assert not (shell.folder / "results/local/mishaps-v1/jobs").exists()

    again = shell.run("run", "mishaps", "--timeout", "12", "--dry-run").stderr
    assert "3 of 6 cells to run" in again  # failed and timed out are tried again; the rest stands


def test_expected_outcome_is_no_failure(shell: Shell) -> None:
    text = (Path(__file__).parent / "toy_package/toy_metabench/suites/mishaps.toml").read_text()
    head, _, _ = text.partition("[[cells]]")
    cell = '[[cells]]\nalgorithm = {name = "mishap", how = "memory"}\nexpect = ["out-of-memory"]\n'
    (shell.folder / "frontier.toml").write_text(head.replace('"mishaps"', '"frontier"') + cell)
    shell.run("run", "frontier.toml", "--quiet", check=0)
    (result,) = shell.results("frontier-v1")
    assert result.status == "out-of-memory"


def test_network_that_does_not_fit_ends_the_cell_before_training(shell: Shell) -> None:
    text = (Path(__file__).parent / "toy_package/toy_metabench/suites/toy.toml").read_text()
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


def test_more_ranks_than_tasks_is_a_skip(shell: Shell) -> None:
    backend = "cpu-ranks:ranks=5,threads=1,oversubscribe=true"
    shell.run("run", "toy", "--backend", backend, "--quiet", check=0)
    (result,) = shell.results("toy-v3")
    assert result.status == "skipped", result.reason
    assert "5 ranks are more than the 4 tasks" in result.reason


def test_rank_that_falls_is_named_and_leaves_no_process(shell: Shell) -> None:
    text = (Path(__file__).parent / "toy_package/toy_metabench/suites/mishaps.toml").read_text()
    head, _, _ = text.partition("[[cells]]")
    cells = "".join(
        f'[[cells]]\nalgorithm = {{name = "mishap", how = "{how}", on_rank = 1}}\n'
        for how in ("raise", "kill")
    )
    ranks = head.replace('"mishaps"', '"fallen"').replace('{name = "cpu"', '{name = "cpu-ranks", ranks = 2')
    (shell.folder / "fallen.toml").write_text(ranks + cells)
    shell.run("run", "fallen.toml", "--quiet", "--timeout", "90", check=1)
    found = {r.cell.algorithm.settings["how"]: r for r in shell.results("fallen-v1")}
    assert {r.status for r in found.values()} == {"failed"}
    assert "the toy broke" in found["raise"].reason
    assert found["kill"].reason == "rank 1 was ended by SIGKILL"
    assert workers(shell.folder) == []


def test_killed_runner_leaves_no_orphan_and_the_same_command_goes_on(shell: Shell) -> None:
    run = shell.argv("run", "mishaps", "--quiet")
    order = shell.folder / "order.toml"
    text = (Path(__file__).parent / "toy_package/toy_metabench/suites/mishaps.toml").read_text()
    head, _, _ = text.partition("[[cells]]")
    sleeper = '[[cells]]\nalgorithm = {name = "mishap", how = "%s"}\n'
    order.write_text(head.replace('"mishaps"', '"order"') + sleeper % "none" + sleeper % "sleep")
    run = shell.argv("run", "order.toml", "--quiet")
    first = subprocess.Popen(run, cwd=shell.folder, env=shell.environment)
    asleep = shell.folder / "results/local/order-v1/jobs"
    wait_until(lambda: any("asleep" in log.read_text() for log in asleep.glob("*/log")))
    assert "another run writes here" in shell.run("run", "order.toml", check=1).stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: workers(shell.folder) == [], 20)
    assert [r.status for r in shell.results("order-v1")] == ["ok"]
    (before,) = (shell.folder / "results/local/order-v1").glob("*.json")
    stamp = before.stat().st_mtime_ns
    shutil.rmtree(asleep)  # so that the wait below is for the second run's log

    second = subprocess.Popen(run, cwd=shell.folder, env=shell.environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any("asleep" in log.read_text() for log in asleep.glob("*/log")))
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=30)
    assert second.returncode == 130, said
    assert "the same command goes on from there" in said
    assert before.stat().st_mtime_ns == stamp
    wait_until(lambda: workers(shell.folder) == [], 20)


def test_truncated_result_is_named_and_set_aside(shell: Shell) -> None:
    shell.run("run", "toy", "--quiet")
    (path,) = (shell.folder / "results/local/toy-v3").glob("*.json")
    path.write_text(path.read_text()[:1000])
    done = shell.run("run", "toy")
    assert f"{path.name}: truncated" in done.stderr
    assert len(list((shell.folder / "results/local/toy-v3/aside").iterdir())) == 1
    assert shell.results("toy-v3")[0].status == "ok"


def test_same_seed_twice_gives_identical_scores_and_rerun_keeps_the_old_result(shell: Shell) -> None:
    shell.run("run", "toy", "--quiet")
    (first,) = shell.results("toy-v3")
    shell.run("run", "toy", "--quiet", "--rerun")
    (second,) = shell.results("toy-v3")
    assert first.scores is not None
    assert second.scores is not None
    assert first.started != second.started
    assert first.scores.per_task == second.scores.per_task
    assert len(list((shell.folder / "results/local/toy-v3/aside").iterdir())) == 1


def test_python_gives_the_same_as_a_data_frame(shell: Shell) -> None:
    program = (
        "import metabench; f = metabench.run('toy', quiet=True, seeds=[4]);"
        "print(list(f['algorithm']), list(f['seed']), list(f['status']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['toy-mean'] [4] ['ok']\n", done.stderr
    assert [r.cell.seed for r in shell.results("toy-v3")] == [4]


def test_mistake_in_the_request_exits_with_2_before_anything_runs(shell: Shell) -> None:
    for wrong, said in [
        (["run", "quik"], "no suite is called 'quik'; did you mean 'quick'?"),
        (["run", "toy", "--only", "algorithm=tooy"], "no cell has algorithm 'tooy'"),
        (["run", "toy", "--backend", "gpu"], "no backend is called 'gpu'"),
        (["run", "toy", "--seeds", "a"], "'a' is no list of whole numbers"),
        (["run", "toy", "--executor", "slurm"], "no executor is called 'slurm'"),
        (["run", "no/such.toml"], "no suite file 'no/such.toml'"),
        (["show", "mamml"], "did you mean 'maml'?"),
        (["list", "algoritms"], "did you mean 'algorithms'?"),
    ]:
        assert said in shell.run(*wrong, check=2).stderr
    assert not (shell.folder / "results").exists()


def test_results_folder_that_cannot_be_written_says_so(shell: Shell) -> None:
    (shell.folder / "results").write_text("a file, not a folder")
    done = shell.run("run", "toy", "--quiet", check=1)
    assert "cannot be made" in done.stderr
    assert "choose another --results" in done.stderr


def test_quiet_says_nothing_and_plain_output_has_whole_lines(shell: Shell) -> None:
    done = shell.run("run", "toy", "--quiet")
    assert done.stdout + done.stderr == ""
    said = shell.run("run", "toy", "--rerun").stderr
    assert "toy-mean toy-linear toy-lines 1w4s cpu seed 0: starts" in said
    assert "\x1b" not in said
    assert "\r" not in said


def test_worker_imports_only_what_its_job_names(shell: Shell) -> None:
    program = (
        "import sys, json; from metabench import worker; worker.main([sys.argv[1]]);"
        "print(json.dumps([m for m in sys.modules if 'metabench' in m or m in ('pandas', 'matplotlib')]))"
    )
    from metabench.plugins import load
    from metabench.runner import _Jobs, make_plan  # the job file is what is wanted here, not a run

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
    (job,) = _Jobs(plan).prepared(plan.to_run)
    environment = {**shell.environment, **job.environment}
    done = subprocess.run(
        [*job.argv[:1], "-c", program, str(job.folder / "job.json")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "metabench_plugins.algorithms.reptile" in loaded
    assert not {"pandas", "matplotlib", "metabench.plugins", "metabench_plugins.algorithms.maml"} & loaded
    assert not {m for m in loaded if m.startswith("metabench_plugins.datasets.") and "sinusoid" not in m}
