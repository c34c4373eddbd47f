"""What a ride-along is, whichever process its analysis runs in: hooks, and runs with answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from livespt.micromanager.hooks import Hooks
from livespt.pipeline import Counters
from livespt.results import RunResult
from livespt.types import Estimates, LivesptError


class Run(Protocol):
    """What a ride-along needs of one of its runs."""

    @property
    def estimates(self) -> Estimates | None:
        """The newest answer; None before the first."""
        ...

    @property
    def counters(self) -> Counters:
        """What was counted so far."""
        ...


R = TypeVar("R", bound=Run, covariant=True)


class Riding(Hooks, Generic[R]):
    """Runs that ride along, by the names of their places; a context that is closed at its end."""

    @property
    def runs(self) -> Mapping[str, R]:
        """The runs by the names of their places; one run without a split has the name ""."""
        raise NotImplementedError

    @property
    def estimates(self) -> Estimates | None:
        """The newest answer of the only run, or of the one that was opened last."""
        run = self._last()
        return run.estimates if run else None

    @property
    def counters(self) -> Counters:
        """What was counted so far in the only run, or in the one that was opened last."""
        run = self._last()
        return run.counters if run else Counters()

    def result(self, timeout_s: float | None = None) -> RunResult:
        """Wait for the end of the only run and return its answer (see `results`).

        Raises
        ------
        LivesptError
            There are several, or none: `results` has them by name.
        """
        found = self.results(timeout_s)
        if len(found) != 1:
            raise LivesptError(f"result: {len(found)} runs ({', '.join(found)}): use results()")
        return next(iter(found.values()))

    def results(self, timeout_s: float | None = None) -> dict[str, RunResult]:
        """Wait for all runs and return their answers, by the names of their places."""
        raise NotImplementedError

    def close(self) -> None:
        """`end`, wait for the final passes, and let go of everything."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _last(self) -> R | None:
        return next(reversed(list(self.runs.values())), None)
