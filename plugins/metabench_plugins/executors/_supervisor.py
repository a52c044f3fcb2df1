"""Supervises one job: starts its command, caps its log, and leaves no process of it behind.

    python -P _supervisor.py      started for each job by the executor `local`; imports nothing of metabench

The order comes as one line of JSON on standard input, which the executor then keeps open: when it closes, by
the executor or by its death, the job is ended. Standard error is the job's log. How the job ended is written
to standard output as one line of JSON.

On Linux every orphan of the job becomes a child of this process (PR_SET_CHILD_SUBREAPER), and the command
dies with it (PR_SET_PDEATHSIG). Elsewhere a process that leaves the tree is known by METABENCH_JOB in its
environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

NOT_STARTED = 127
"""The exit status that a shell gives a command which it cannot start."""
KILL_SECONDS = 10.0
"""How long killed processes may take to be gone: one in an uninterruptible call cannot be waited for."""
DRAIN_SECONDS = 2.0
"""How long the last output of a job is waited for once its processes are gone."""
LOOK_SECONDS = 1.0
RANK_LOG_BYTES = 64 * 2**20
"""torchrun copies what its ranks print to files of its own; one beyond this size is cut."""
TORCHRUN = "torchrun"
"""The folder of those files, in the folder of the job."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Run the job of the order; say how it ended."""
    order = json.loads(sys.stdin.buffer.readline())
    subreaper = _prctl(PR_SET_CHILD_SUBREAPER, 1)
    job = SupervisedJob(order, None if subreaper else order["token"])
    with suppress(OSError):  # the executor may be gone
        os.write(sys.stdout.fileno(), json.dumps(job.run()).encode() + b"\n")
    os._exit(0)  # threads that wait need not be waited for


class SupervisedJob:
    """A job with its processes.

    order: "argv", "environment", "timeout" (seconds or None), "grace_seconds", "folder", "token"; token:
    marks the environment of the job's processes where they cannot be found as descendants.
    """

    def __init__(self, order: dict[str, Any], token: str | None) -> None:
        self.order, self.token = order, token
        self.log = CappedLog(sys.stderr.fileno())
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()  # "ended", "cancelled"
        self.exit_code: int | None = None

    def run(self) -> dict[str, Any]:
        """Run the command to its end, or end it; return its exit code and whether it timed out."""
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, name):  # Windows has no SIGHUP
                signal.signal(getattr(signal, name), lambda *_: self.events.put("cancelled"))
        started = time.monotonic()
        try:
            self.process = process = self._start()  # kept to the end: its pipe is never closed
        except OSError as error:
            self.log.write(f"{self.order['argv'][0]}: cannot be started: {error.strerror}\n".encode())
            return {"exit_code": NOT_STARTED, "timed_out": False}
        output = _thread(self._copy_output, process)
        waiter = _thread(self._wait, process)
        _thread(self._watch_executor)
        event = self._next_event(started)
        if event != "ended":
            self._terminate(waiter)
        self._kill()
        waiter.join(KILL_SECONDS)
        output.join(DRAIN_SECONDS)
        return {"exit_code": self.exit_code, "timed_out": event == "timed out"}

    def _start(self) -> subprocess.Popen[bytes]:
        own = {"METABENCH_PARENT": str(os.getpid()), "METABENCH_JOB": self.order["token"]}
        supervisor = os.getpid()
        return subprocess.Popen(
            self.order["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **own, **self.order["environment"]},
            start_new_session=True,  # a signal to the group of the command does not reach this process
            preexec_fn=(lambda: _die_with(supervisor)) if os.name == "posix" else None,
        )

    def _next_event(self, started: float) -> str:
        timeout, rank_logs = self.order["timeout"], Path(self.order["folder"]) / TORCHRUN
        while True:
            left = LOOK_SECONDS if timeout is None else started + timeout - time.monotonic()
            if left <= 0:
                return "timed out"
            with suppress(queue.Empty):
                return self.events.get(timeout=min(left, LOOK_SECONDS))
            cut_rank_logs(rank_logs)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the command and for every orphan; this thread alone collects exit statuses."""
        if os.name != "posix":
            self.exit_code = process.wait()
            self.events.put("ended")
            return
        with suppress(ChildProcessError):  # none is left
            while True:
                pid, status = os.wait()
                if pid == process.pid:
                    self.exit_code = process.returncode = os.waitstatus_to_exitcode(status)
                    self.events.put("ended")

    def _watch_executor(self) -> None:
        while sys.stdin.buffer.read(2**10):
            pass
        self.events.put("cancelled")

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 2**16):
            self.log.write(data)

    def _terminate(self, waiter: threading.Thread) -> None:
        """Ask every process to end, and wait until they have, or the grace time is over."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.terminate()
        end = time.monotonic() + self.order["grace_seconds"]
        while waiter.is_alive() and time.monotonic() < end and any(self._processes()):
            time.sleep(0.02)

    def _kill(self) -> None:
        """Kill what is left, and what it starts meanwhile, until nothing is left."""
        end = time.monotonic() + KILL_SECONDS
        while (processes := list(self._processes())) and time.monotonic() < end:
            for process in processes:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.005)

    def _processes(self) -> Iterator[psutil.Process]:
        family = psutil.Process().children(recursive=True)
        if self.token is not None:
            family += marked_processes(self.token)
        for process in family:
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process


class CappedLog:
    """A file that keeps the beginning and the end of what is written to it.

    descriptor: of an empty file, open for reading and writing; head, tail: bytes that are kept at least.
    """

    def __init__(self, descriptor: int, head: int = 2**20, tail: int = 2**20) -> None:
        self.descriptor, self.head, self.tail = descriptor, head, tail
        self.left_out = 0
        self.start = head  # of the last part, after the line about what is left out

    def write(self, data: bytes) -> None:
        """Add output; where the disk is full, it is lost and the job goes on."""
        with suppress(OSError):
            os.write(self.descriptor, data)
            size = os.lseek(self.descriptor, 0, os.SEEK_CUR)
            if size > self.start + 2 * self.tail:
                self._leave_out(size)

    def _leave_out(self, size: int) -> None:
        os.lseek(self.descriptor, size - self.tail, os.SEEK_SET)
        last = os.read(self.descriptor, self.tail)
        self.left_out += size - self.tail - self.start
        note = f"\n[{self.left_out} bytes are left out here]\n".encode()
        os.ftruncate(self.descriptor, self.head)
        os.lseek(self.descriptor, self.head, os.SEEK_SET)
        os.write(self.descriptor, note + last)
        self.start = self.head + len(note)


def cut_rank_logs(folder: Path, most: int = RANK_LOG_BYTES) -> None:
    """Free what torchrun's own files take of the disk beyond `most` bytes each; they go on behind a hole."""
    for path in folder.glob("*/attempt_*/*/std*.log"):
        with suppress(OSError):
            status = path.stat()
            if min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512) > most:
                os.truncate(path, 0)


def marked_processes(token: str) -> list[psutil.Process]:
    """Return every process whose environment has this METABENCH_JOB."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("METABENCH_JOB") == token:
                processes.append(process)
    return processes


def _thread(target: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def _die_with(supervisor: int) -> None:
    """In the new process, before it becomes the command: ask the kernel to kill it with its supervisor."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)


def _prctl(option: int, value: int) -> bool:
    """Set an attribute of this process; False on systems other than Linux."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


if __name__ == "__main__":
    main()
