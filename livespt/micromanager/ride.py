"""Runs beside a user's own acquisition: one, or one for each of its places."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator

import msgspec

from livespt.micromanager.checks import named_run
from livespt.micromanager.live import Live
from livespt.micromanager.riding import Riding
from livespt.results import RunResult
from livespt.sections import Config
from livespt.session import Session
from livespt.sources.axes import Key
from livespt.sources.ridealong import RideAlong
from livespt.types import LivesptError, SourceInfo, StreamItem

#: Frames of one place that may wait behind the ring.
_WAITING = 4
#: Port of any free number; the first run alone has the config's own addresses.
_ANY_PORT = "tcp://127.0.0.1:*"


class Place:
    """The frames of one place as a `Source` of their own."""

    def __init__(self, ride: RideAlong, name: str) -> None:
        self.info: SourceInfo = ride.info._replace(name=f"{ride.info.name} {name}".rstrip())
        self.pixel_um, self.binning = ride.pixel_um, ride.binning
        self.origin_px, self.saturation_adu = ride.origin_px, ride.saturation_adu
        self.notes = ride.notes
        self._items: queue.Queue[StreamItem | None] = queue.Queue(_WAITING)
        self._closed = threading.Event()

    def put(self, item: StreamItem | None) -> None:
        """Hand over an item, None at the end; waits while `_WAITING` wait already."""
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def frames(self) -> Iterator[StreamItem]:
        """Yield what was put, until the end."""
        while not self._closed.is_set():
            try:
                item = self._items.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Take no more."""
        self._closed.set()


class Ride(Riding[Live]):
    """Runs that ride along in somebody's acquisition, and the hooks that feed them.

    Made by `ride_along` and `follow_mda`. As a context it says at the end that the acquisition is
    over, and waits for the final pass; enter it before the acquisition.

    Parameters
    ----------
    along : RideAlong
    config : Config
    origin : str
        Where the config came from, for messages.
    split : bool
        Whether each of `along`'s streams becomes a run of its own.
    modest_by : int
        Niceness of the runs' threads. In the acquisition's own process no more than 10: a thread
        that waits for a processor may hold the interpreter.
    """

    def __init__(
        self, along: RideAlong, config: Config, origin: str, *, split: bool, modest_by: int = 10
    ) -> None:
        super().__init__(along)
        self._modest_by = modest_by
        self._along, self._config, self._origin = along, config, origin
        self._runs: dict[Key, Live] = {}
        self._places: dict[Key, Place] = {}
        self._error: LivesptError | None = None
        self._sorter: threading.Thread | None = None
        if not split:
            named = named_run(config, "acquisition")
            session = Session(named, source=along, origin=origin)
            self._runs[()] = Live(session, modest_by=modest_by)
            return
        _rehearse(along, config, origin)
        self._sorter = threading.Thread(target=self._sort, name="livespt-places", daemon=True)
        self._sorter.start()

    # --- what comes of it --------------------------------------------------------------------

    @property
    def runs(self) -> dict[str, Live]:
        """The runs by the names of their places; one run without a split has the name ""."""
        return {_name(key): run for key, run in list(self._runs.items())}

    @property
    def n_shed(self) -> int:
        """Images that analysis skipped, of all places."""
        return self._along.counters.n_shed

    @property
    def n_passed(self) -> int:
        """Images of other channels or places, which passed by."""
        return self._along.n_passed

    @property
    def error(self) -> LivesptError | None:
        """Why images could not be given to their runs; None where they could."""
        return self._error

    @property
    def over(self) -> bool:
        """Whether all runs have ended, and no other will begin."""
        sorting = self._sorter is not None and self._sorter.is_alive()
        return not (sorting or any(run.running for run in list(self._runs.values())))

    def results(self, timeout_s: float | None = None) -> dict[str, RunResult]:
        """Wait for all runs and return their answers, by the names of their places.

        Raises
        ------
        TimeoutError
            One goes on after `timeout_s`, or the acquisition is not over.
        LivesptError
            A run failed as a whole, or could not be opened.
        """
        if self._sorter is not None:
            self._sorter.join(timeout_s)
            if self._sorter.is_alive():
                raise TimeoutError(f"the acquisition still goes on after {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return {name: run.result(timeout_s) for name, run in self.runs.items()}

    def stop(self) -> None:
        """Take no more images; all runs end in good order. The acquisition goes on."""
        self._along.end()
        for run in list(self._runs.values()):
            run.stop()

    def end(self) -> None:
        """Say that the acquisition is over: what waits is still analysed, then the runs end."""
        self._saved.end()
        self._along.end()

    def close(self) -> None:
        """`end`, wait for the final passes, and let go of everything."""
        self._disconnect()
        self.end()
        if self._sorter is not None:
            self._sorter.join()
        for run in self._runs.values():
            run.wait()

    # --- places ------------------------------------------------------------------------------

    def _sort(self) -> None:
        """Give each item to the run of its place, which is opened with its first."""
        try:
            for key, item in self._along.streams():
                place = self._places.get(key) or self._open(key)
                place.put(item)
        except LivesptError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 (raised by `results`, in the script's thread)
            self._error = LivesptError(f"{self._origin}: {type(error).__name__}: {error}")
        self._along.end()
        for place in self._places.values():
            place.put(None)

    def _open(self, key: Key) -> Place:
        name = _name(key)
        place = Place(self._along, name)
        config = _of_place(self._config, name, first=not self._runs)
        session = Session(config, source=place, origin=self._origin)
        self._runs[key] = Live(session, modest_by=self._modest_by)
        self._places[key] = place
        return place


def _rehearse(along: RideAlong, config: Config, origin: str) -> None:
    """Find what is wrong with the config, and compile, before the first image."""
    journal = msgspec.structs.replace(config.journal, enabled=False)
    wire = msgspec.structs.replace(config.wire, enabled=False)
    quiet = msgspec.structs.replace(config, journal=journal, wire=wire)
    with Session(quiet, source=Place(along, ""), origin=origin) as session:
        session.warm_up()


def _of_place(config: Config, name: str, *, first: bool) -> Config:
    """Return the config of one place: its name in the run folder's, an address of its own."""
    config = named_run(config, "acquisition")
    config = named_run(config, f"{config.journal.name}-{name}", anyway=True)
    if first:
        return config
    wire = msgspec.structs.replace(config.wire, publish=_ANY_PORT, command=_ANY_PORT)
    return msgspec.structs.replace(config, wire=wire)


def _name(key: Key) -> str:
    """Spell a place as a part of a folder's name."""
    return "-".join(re.sub(r"[^\w.]+", "_", str(value)) for value in key)
