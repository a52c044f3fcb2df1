"""The error that a check raises: it names the component, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from unittest import SkipTest

from metabench.contracts import Component
from metabench.errors import MetabenchError
from metabench.plugins import KINDS, contract_violation
from metabench.settings import make

T = TypeVar("T", bound=Component)


class ContractError(AssertionError):
    """A component does not keep its contract; the text names it, what is wrong, and what to do."""


@dataclass(frozen=True)
class Subject:
    """The component under test: its kind and name, which every message begins with."""

    title: str

    def require(self, holds: bool, what: str) -> None:
        """Raise ContractError with `what` unless it holds."""
        if not holds:
            raise ContractError(f"{self.title}: {what}")

    @contextmanager
    def doing(self, what: str, *allowed: type[Exception]) -> Iterator[None]:
        """Turn any exception of the block but those allowed into a ContractError that names `what`."""
        try:
            yield
        except Exception as error:
            if isinstance(error, (ContractError, *allowed)):
                raise
            first = (str(error).strip() or "no message").splitlines()[0]
            raise ContractError(f"{self.title}: {what} raised {type(error).__name__}: {first}") from error

    @contextmanager
    def refusing(self, what: str, wanted: type[MetabenchError], because: str) -> Iterator[None]:
        """Raise ContractError unless the block raises `wanted` with a reason in it."""
        try:
            yield
        except wanted as error:
            self.require(bool(str(error).strip()), f"{what} raised {wanted.__name__} without a reason in it")
        except Exception as error:
            raise ContractError(
                f"{self.title}: {what} raised {type(error).__name__} ({error}); {because}: "
                f"raise metabench.{wanted.__name__} with the reason"
            ) from error
        else:
            raise ContractError(
                f"{self.title}: {what} was accepted; {because}: raise metabench.{wanted.__name__} with the "
                "reason"
            )


def begin(kind: str, component: T | type[T]) -> tuple[T, Subject]:
    """Return the instance to check (a class is made with its defaults), after the checks of every component.

    Raises ContractError where the class is no component, SkipTest where it cannot be used here.
    """
    cls = component if isinstance(component, type) else type(component)
    subject = Subject(f"{kind} {getattr(cls, 'name', cls.__name__)!r}")
    violation = contract_violation(kind, cls)
    subject.require(violation is None, f"its class {cls.__name__} {violation}")
    reason = cls.unavailable()
    subject.require(
        reason is None or (isinstance(reason, str) and bool(reason.strip())),
        f"unavailable() must return None, or the reason and the command that mends it, got {reason!r}",
    )
    if reason is not None:
        raise SkipTest(f"{subject.title}: {reason}")
    if isinstance(component, type):
        with subject.doing("making it with its default settings"):
            component = make(component)
    base = KINDS[kind].base
    subject.require(isinstance(component, base), f"{component!r} is no metabench.{base.__name__}")
    return component, subject
