"""The process of a ride-along: ``python -m livespt.micromanager.process``, started by `RideApart`.

It takes the images out of the lane that it shares with the acquisition's process, and is otherwise
what a `Ride` is: the same ring, the same runs. On its standard input it hears of images and orders,
on its standard output it reports. The end of its input is the end of the acquisition, whatever
ended it: what came is analysed, the final pass is made, and the process ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import BinaryIO

import numpy as np

from livespt.micromanager import messages
from livespt.micromanager.lane import Lane
from livespt.micromanager.live import Live
from livespt.micromanager.ride import Ride
from livespt.pipes import own_pipes
from livespt.sources.base import SourceError
from livespt.sources.ridealong import RideAlong
from livespt.turns import stand_back
from livespt.types import LivesptError

#: Time between two reports of what is new.
REPORT_S = 0.05
#: Niceness of the analysis: it takes what the acquisition leaves.
MODEST = 19


class _Outgoing:
    """Reports to the acquisition's process; nobody cares for them once that is gone."""

    def __init__(self, fd: int) -> None:
        self._fd, self._lock = fd, threading.Lock()

    def send(self, report: messages.Report) -> None:
        """Send one report."""
        data = memoryview(messages.pack(report))
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]


class _Reporter:
    """Tells what is new of a ride, from a thread of its own."""

    def __init__(self, ride: Ride, out: _Outgoing) -> None:
        self._ride, self._out = ride, out
        self._shown: dict[str, tuple[int, bool]] = {}
        self._taken = messages.Ride(0, 0)
        self._finished: set[str] = set()
        self._over = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="livespt-report", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the last, once everything has ended."""
        self._ending.set()
        self._thread.join()
        self._report()

    def _run(self) -> None:
        while not self._ending.wait(REPORT_S):
            self._report()

    def _report(self) -> None:
        over = self._ride.over  # in this order: what ends meanwhile is told the next time
        for name, run in self._ride.runs.items():
            running = run.running
            self._show(name, run, running)
            if not running and name not in self._finished:
                self._finished.add(name)
                self._out.send(_finished(name, run))
        taken = messages.Ride(self._ride.n_shed, self._ride.n_passed)
        if taken != self._taken:
            self._taken = taken
            self._out.send(taken)
        if over and not self._over:
            self._over = True
            self._out.send(messages.Ended(str(self._ride.error or "")))

    def _show(self, name: str, run: Live, running: bool) -> None:
        c = run.counters
        stand = c.frames_processed, running
        if self._shown.get(name) == stand:
            return
        self._shown[name] = stand
        counters = (
            c.frames_in, c.frames_processed, c.frames_shed, c.frames_missing, c.spots,
            c.tracks_seen, c.tracks_ended, c.t_s,
        )  # fmt: skip
        estimates = messages.pack_estimates(run.estimates)
        self._out.send(messages.Run(name, str(run.folder), running, counters, estimates))


def _finished(name: str, run: Live) -> messages.Finished:
    try:
        return messages.Finished(name, run.result(), "")
    except LivesptError as error:
        return messages.Finished(name, None, str(error))


def _open(opening: messages.Open) -> tuple[RideAlong, Ride]:
    facts = opening.facts
    try:
        along = RideAlong(
            facts.shape,
            interval_s=opening.interval_s,
            exposure_s=facts.exposure_s,
            per=opening.per,
            facts=facts,
            **opening.options,
        )
    except TypeError as error:
        raise SourceError(f"ride_along: {error}") from None
    along.notes = opening.notes
    return along, Ride(
        along, opening.config, opening.origin, split=bool(opening.per), modest_by=MODEST
    )


def serve(incoming: BinaryIO, out: _Outgoing) -> None:
    """Ride along in one acquisition, to its end."""
    opening = messages.read_open(incoming)
    if opening is None:
        return
    try:
        lane = Lane(opening.lane)
        along, ride = _open(opening)
    except Exception as error:  # noqa: BLE001 (raised anew in the script)
        ours = isinstance(error, LivesptError)
        why = str(error) if ours else f"{type(error).__name__}: {error}"
        out.send(messages.Refused(type(error).__name__, why))
        return
    if sys.platform != "win32":  # there the starter has seen to it
        # not before: compiling would take ten times as long on a busy machine
        if sys.platform == "linux":
            stand_back(MODEST)
        else:
            os.nice(MODEST)
    out.send(messages.Ready())
    reporter = _Reporter(ride, out)
    _listen(incoming, lane, along, ride)
    ride.close()
    reporter.close()


def _listen(incoming: BinaryIO, lane: Lane, along: RideAlong, ride: Ride) -> None:
    """Take images and orders until the acquisition is over."""
    for line in iter(incoming.readline, b""):
        word, _, text = line.decode("utf-8").strip().partition(" ")
        if not word:
            _take(lane, along)
        elif word == "end":
            along.end(int(text))
            return
        elif word == "fail":
            along.fail(SourceError(text))
        elif word == "stop" and text in ride.runs:
            ride.runs[text].stop()
        elif word == "stop":
            ride.stop()


def _take(lane: Lane, along: RideAlong) -> None:
    data = lane.look()
    if data is None:
        return
    note = messages.read_note(data)
    pixels = lane.pixels(note.shape, np.dtype(note.dtype))
    along.take(pixels, note.tags, note.arrived_s, note.n_skipped)  # copied when it returns
    lane.done()


def main() -> None:
    """Serve one acquisition, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the script, which then ends us
    read_fd, write_fd = own_pipes()
    with open(read_fd, "rb") as incoming:
        serve(incoming, _Outgoing(write_fd))


if __name__ == "__main__":
    main()
