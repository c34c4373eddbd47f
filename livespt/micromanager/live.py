"""A run on a thread of its own, beside somebody's acquisition."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from livespt.pipeline import Counters
from livespt.results import RunResult
from livespt.session import Session
from livespt.turns import stand_back
from livespt.types import Estimates, LivesptError


class Live:
    """A session that runs beside your script.

    Made by `attach`; `Ride` holds one for each place. Everything is compiled when it is made, and
    it runs from then on.

    Parameters
    ----------
    session : Session
        Not yet run; closed at the end.
    modest_by : int
        Niceness with which it lets whatever else goes on come first, as far as the system can.
    """

    def __init__(self, session: Session, *, modest_by: int = 0) -> None:
        self.session, self._modest_by = session, modest_by
        self._result: RunResult | None = None
        self._error: BaseException | None = None
        try:
            session.warm_up()
        except BaseException:
            session.close()
            raise
        self._thread = threading.Thread(target=self._run, name="livespt-run", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.session.folder

    @property
    def estimates(self) -> Estimates | None:
        """The newest answer; None before the first frame."""
        return self.session.pipeline.last

    @property
    def counters(self) -> Counters:
        """What was counted so far: frames in, processed, shed, missing; spots and tracks."""
        return self.session.pipeline.counters

    @property
    def running(self) -> bool:
        """Whether the run, its final pass included, still goes on."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the stream in good order; the final pass still runs. Any thread may call."""
        self.session.stop()

    def result(self, timeout_s: float | None = None) -> RunResult:
        """Wait for the run's end and return its answer.

        Raises
        ------
        TimeoutError
            It still goes on after `timeout_s`.
        LivesptError
            It failed as a whole; what only a step of it met is in `RunResult.failed`.
        """
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.folder}: the run still goes on after {timeout_s:g} s")
        if self._result is None:
            raise LivesptError(f"{self.folder}: the run failed: {self._error}") from self._error
        return self._result

    def close(self) -> None:
        """Stop, wait for the final pass, and let go of everything."""
        if self.running:
            self.stop()
        self.wait()

    def wait(self) -> None:
        """Wait for the run's own end, and let go of everything."""
        self._thread.join()
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        if self._modest_by:
            stand_back(self._modest_by)
        try:
            self._result = self.session.run()
        except BaseException as error:  # noqa: BLE001 (raised by `result`, in the script's thread)
            self._error = error
