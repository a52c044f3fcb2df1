"""The command `metabench`: a thin list of commands, each in a module that is imported when it is used."""

from __future__ import annotations

import signal
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import Any

import click

from metabench import __version__
from metabench.commands.terminal import say
from metabench.errors import MetabenchError, RequestError, did_you_mean

COMMANDS = {
    # name: (module, help in one line), in the order of use
    "run": ("run", "Run a suite and show its tables."),
    "tune": ("tune", "Search settings on validation tasks and print the best."),
    "watch": ("watch", "Show what the cells of a run do, from another terminal."),
    "list": ("list", "List suites and components that are installed."),
    "show": ("show", "Explain a suite or a component with all of its settings."),
    "report": ("report", "Show tables and write reports of stored results."),
    "plan": ("plan", "Say how many tasks, classes and seeds a wanted precision takes."),
    "compare": ("compare", "Compare two sets of results; exit status 1 on a regression."),
    "data": ("data", "Bring, check and find data sets."),
    "publish": ("publish", "Verify local results and copy them to where they are published."),
    "verify": ("verify", "Check a set of results before trusting it."),
    "rescore": ("rescore", "Add metrics to results from their stored predictions."),
    "evaluate": ("evaluate", "Score the learned state of a result on other tasks, without training."),
    "reproduce": ("reproduce", "Run the cell of a result again and compare the numbers."),
    "leaderboard": ("leaderboard", "Build a static site of leaderboards."),
    "new": ("new", "Write a small plugin package that works at once."),
    "doctor": ("doctor", "Check this installation, its plugins and its hardware."),
}


UNUSABLE = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""The errors of a path in the request that cannot be used: exit status 2."""


class _Commands(click.Group):
    """Imports a command when it is used, so that `metabench --help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            ctx.fail(f"no command is called {name!r}; {did_you_mean(name, COMMANDS)}")
        command: click.Command = import_module(f"metabench.commands.{COMMANDS[name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: metabench run quick",
)
@click.version_option(__version__, prog_name="metabench")
def metabench() -> None:
    """Measure meta-learning: accuracy, wall time and scaling, on the same tasks.

    Suites, algorithms, data sets, hardware backends and reports come from plugins.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its status.

    0: done; 1: a cell or a check failed, or the disk is full; 2: a mistake in the request; 130: interrupted.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: Any = metabench.main(arguments, prog_name="metabench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        _print_error(
            "interrupted; the results of finished cells are stored, and the same command runs the others"
        )
        sys.exit(130)
    except MetabenchError as error:
        _print_error(str(error))
        sys.exit(2 if isinstance(error, RequestError) else 1)
    except SystemExit as error:  # nothing of ours raises it there
        _print_error(f"a plugin ended the command, by sys.exit({error.code!r}) in {_place(error)}")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # mostly a path of the request that cannot be used
        where = f"{error.filename}: " if error.filename is not None else ""
        _print_error(f"{where}{error.strerror or error}")
        sys.exit(2 if isinstance(error, UNUSABLE) else 1)
    sys.exit(code if isinstance(code, int) else 0)


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_error(text: str) -> None:
    lines = text.splitlines()
    head = f"metabench: {len(lines)} mistakes\n  " if len(lines) > 1 else "metabench: "
    say(head + "\n  ".join(lines), err=True)


if __name__ == "__main__":
    main()
