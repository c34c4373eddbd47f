"""One run, from a config to a run folder and a final answer.

The order matters: everything that can be wrong with the input is found before anything is
written, kernels are compiled before the camera is armed, and whatever happens afterwards the
journal is closed in good order and the final pass is tried on what there is.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

from msgspec.structs import replace

import livespt
from livespt import config as configuration
from livespt.control.controller import Controller
from livespt.control.law import Law
from livespt.excitation import check_control, open_control, with_cell
from livespt.journal import Journal
from livespt.offline import NOTHING_FOUND, finish_run, localization_summary
from livespt.pipeline import Pipeline, Sink
from livespt.practice import preparations
from livespt.results import RunResult
from livespt.saving import RawSaving
from livespt.sections import Config
from livespt.sinks import (
    BroadcastSink,
    CommandSink,
    Gauges,
    JournalSink,
    Listener,
    Notebook,
    control_message,
)
from livespt.sources import BufferedSource, Source
from livespt.sources.stamped import StampedSource
from livespt.stages import open_stages
from livespt.turns import no_pauses, short_turns
from livespt.types import Event, LivesptError, Model
from livespt.wire import Publisher, schema
from livespt.wire.messages import model_message

T = TypeVar("T")


class Session:
    """A run that can be watched, stopped, and that always leaves its folder in order.

    Parameters
    ----------
    config : Config
    source : Source, optional
        Frames from here instead of what `config.source` names: a `RideAlong`, a tap on a core that
        is the caller's. The session closes it.
    origin : str
        Where the config came from, for messages.
    listeners : sequence of callables
        Get every message, beside the wire; the `listener` of `livespt.reactions.Reactions`, say.
    arm : bool
        Whether control in mode "auto" may write to a real device.
    law : Law, optional
        The caller's own, behind the same guard, in the place of `config.control`'s.

    Raises
    ------
    LivesptError
        On construction: bad input, a port that is taken, a folder that cannot be made.
    """

    def __init__(
        self,
        config: Config,
        *,
        source: Source | None = None,
        origin: str = "config",
        listeners: Sequence[Listener] = (),
        arm: bool = False,
        law: Law | None = None,
    ) -> None:
        check_control(config, origin, law)
        self._raw = RawSaving(config, origin)
        self._publisher: Publisher | None = None
        self._journal: Journal | None = None
        self._control: Controller | None = None
        self._cell = tempfile.TemporaryDirectory(prefix="livespt-", ignore_cleanup_errors=True)
        wired = with_cell(config, Path(self._cell.name))
        try:
            self._stages = open_stages(wired, origin, source)
        except BaseException:
            self._cell.cleanup()
            raise
        self.config = replace(self._stages.config, source=config.source, control=config.control)
        self._warm = False
        self._failures: list[str] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        try:
            if config.wire.enabled:
                self._publisher = Publisher(config.wire.publish, config.wire.command)
            self._journal = journal = self._open_journal()
            self._open_control(wired, origin, arm, law)
            self._stream = self._buffered()
        except BaseException:
            self.close()
            raise
        self.folder: Path = journal.folder
        if self._publisher is not None:
            self._publisher.run = self.folder.name
            listeners = [self._publisher.send, *listeners]
        self._broadcast = BroadcastSink(
            listeners,
            pixel_um=self._stages.config.optics.pixel_um,
            image_every_s=config.wire.image_every_s,
            estimate_every_s=config.wire.estimate_every_s,
            gauges=self._gauges,
        )
        self._notebook = Notebook(self._tell)
        sinks: list[Sink] = [JournalSink(journal), self._broadcast, self._notebook]
        if self._control is not None:
            self._control.show = lambda now: self._broadcast.tell(control_message(now))
            sinks.append(self._control)
        if self._publisher is not None:
            sinks.append(CommandSink(self._publisher, self.stop, self._control))
        self.pipeline = Pipeline(
            self._stages.chain,
            sinks,
            workers=config.localize.workers,
            interval_s=self._stages.source.info.interval_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def wire(self) -> Publisher | None:
        """Where the run publishes and takes commands; None where that is switched off."""
        return self._publisher

    def stop(self) -> None:
        """End the stream in good order; the final pass still runs. Any thread may call."""
        self.pipeline.stop()
        self._stream.close()

    def note(self, text: str) -> None:
        """Put one line among the run's events, within half a second or so. Any thread may call."""
        self._notebook.add(text)

    def close(self) -> None:
        """Let go of the camera, the ports and the folder."""
        with ExitStack() as last:  # each is closed, whatever the others raise
            if self._scratch is not None:
                last.callback(self._scratch.cleanup)
            if self._publisher is not None:
                last.callback(self._publisher.close)
            if self._journal is not None:
                last.callback(self._journal.close)
            last.callback(self._raw.end)
            last.callback(self._stages.source.close)
            last.callback(self._cell.cleanup)
            if self._control is not None:
                last.callback(self._control.close)

    def warm_up(self) -> None:
        """Say hello and compile every kernel; `run` does it where it was not done before.

        Call it before a camera that is not the session's own begins to send.
        """
        if self._warm:
            return
        self._warm = True
        self._broadcast.tell(self._hello())
        self._compile()
        gc.collect()  # now, not while frames come (`no_pauses`)

    def run(self) -> RunResult:
        """Compile, stream, smooth; return the answer. The folder is in order afterwards.

        What fails on the way is noted in `RunResult.failed`, and all that can still be done is.
        """
        journal = self._journal
        assert journal is not None
        self.warm_up()
        clock = [time.perf_counter()]
        self._attempt(self._tell_notes)
        self._attempt(self._run_stream)
        if self._control is not None:
            self._attempt(self._control.end)
        self._attempt(self._end_stream)
        clock.append(time.perf_counter())
        live = self.pipeline.last.model if self.pipeline.last else None
        self._attempt(journal.commit)
        final = self._attempt(lambda: self._final_pass(live))
        clock.append(time.perf_counter())
        seconds = {"stream": clock[1] - clock[0], "final": clock[2] - clock[1]}
        self._attempt(lambda: self._notebook.tick(self.pipeline.counters))  # what came late
        result = self._result(live, final, seconds)
        self._attempt(lambda: journal.close(summary=result.as_json()))
        self._broadcast.state = "failed" if self._failures else "done"
        self._broadcast.tick(self.pipeline.counters)
        return result._replace(failed="; ".join(self._failures))

    def _attempt(self, step: Callable[[], T]) -> T | None:
        """Do one step of the run; note a failure, and let the steps after it have their try."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 (kept for the result, and told to every sink)
            why = (
                str(error)
                if isinstance(error, LivesptError)
                else f"{type(error).__name__}: {error}"
            )
            if why not in self._failures:
                self._failures.append(why)
                self._tell_failure(why)
            return None

    def _tell_failure(self, why: str) -> None:
        event = Event("failed", self.pipeline.counters.t_s, -1, 0, why)
        for sink in self.pipeline.sinks:
            try:
                sink.event(event)
                sink.tick(self.pipeline.counters)
            except Exception as error:  # noqa: BLE001 (perhaps the very sink that failed)
                self._failures.append(f"{type(sink).__name__}: {error}")

    # --- before the stream -------------------------------------------------------------------

    def _open_control(self, wired: Config, origin: str, arm: bool, law: Law | None) -> None:
        journal, source = self._journal, self._stages.source
        assert journal is not None
        if wired.control.mode == "off":
            return
        chosen = replace(wired, optics=self.config.optics)
        try:
            self._control = open_control(
                chosen, source, journal.folder, arm=arm, law=law, origin=origin,
                tell=self._tell,
            )  # fmt: skip
        except LivesptError:
            journal.discard()
            raise

    def _buffered(self) -> Source:
        source = self._stages.source
        if self._control is not None and not hasattr(source, "excitation"):
            source = StampedSource(source, self._control.excitation)
        assert self._journal is not None
        source = self._raw.tap(source, self._journal, self._stages.config.optics.pixel_um)
        if not source.info.paced:
            return source
        chosen = self.config.source
        return BufferedSource(source, chosen.ring_frames, chosen.when_full)

    def _open_journal(self) -> Journal:
        chosen = self.config.journal
        folder = chosen.folder
        if not chosen.enabled:  # the final pass reads a journal; this one goes with the session
            self._scratch = tempfile.TemporaryDirectory(prefix="livespt-")
            folder = self._scratch.name
        return Journal(
            folder,
            config_toml=configuration.dump(self.config),
            info=self._stages.source.info,
            name=chosen.name or self.config.source.kind,
            camera=self._stages.camera,
            rotate_mb=chosen.rotate_mb,
            n_states=self.config.infer.most_states,
        )

    def _hello(self) -> schema.HelloMessage:
        info = self._stages.source.info
        return schema.HelloMessage(
            livespt=livespt.__version__,
            config_toml=configuration.dump(self.config),
            source=info.name,
            shape=info.shape,
            interval_s=info.interval_s,
            exposure_s=info.exposure_s,
            pixel_um=self._stages.config.optics.pixel_um,
            n_states=self.config.infer.first_n_states,
            folder="" if self._scratch else str(self.folder),
        )

    def _compile(self) -> None:
        """Get ready before the camera is armed, and show it."""
        steps = preparations(self._stages)
        self._broadcast.state = "compiling"
        for done, (name, warm_up) in enumerate(steps):
            self._progress(done / len(steps), f"compiling {name}")
            warm_up()
        self._progress(1.0, "compiled")
        self._broadcast.state = "running"

    def _progress(self, fraction: float, note: str) -> None:
        counters = self.pipeline.counters
        self._broadcast.tell(self._broadcast.status(counters, progress=fraction, note=note))

    # --- the stream --------------------------------------------------------------------------

    def _tell_notes(self) -> None:
        """Put what is odd about the camera where the run's other events stand."""
        for note in self._stages.notes:
            self._tell(Event("note", 0.0, -1, 0, note))

    def _tell(self, event: Event) -> None:
        for sink in self.pipeline.sinks:
            sink.event(event)

    def _run_stream(self) -> None:
        info, config = self._stages.source.info, self.config
        limits = [config.stop_after_frames or 0]
        if config.stop_after_s:
            limits.append(configuration.frames_for(config.stop_after_s, info.interval_s))
        max_frames = min((n for n in limits if n), default=None)
        max_s = config.stop_after_s if info.paced else None
        with no_pauses(), short_turns():
            self.pipeline.run(self._stream.frames(), max_frames, max_s, self._stream_is_behind())

    def _stream_is_behind(self) -> Callable[[], bool] | None:
        stream = self._stream
        return stream.is_behind if isinstance(stream, BufferedSource) else None

    def _end_stream(self) -> None:
        """Close the camera; say so where frames that had come were left unanalysed or unsaved."""
        self._stream.close()
        for event in self._raw.end():
            self._tell(event)
        left = self._stream.ring.n_waiting if isinstance(self._stream, BufferedSource) else 0
        if left:
            why = f"{left} frames that had come were not analysed when the run ended"
            self._tell(Event("stopped", self.pipeline.counters.t_s, -1, left, why))

    def _gauges(self) -> Gauges:
        journal, wire = self._journal, self._publisher
        ring = self._stream.ring if isinstance(self._stream, BufferedSource) else None
        raw = self._raw.standing
        trouble = f"raw saving: {raw.trouble}" if raw.trouble else ""
        return Gauges(
            ring_used=ring.n_waiting if ring else 0,
            ring_size=ring.n_frames if ring else 0,
            journal_bytes=journal.n_bytes if journal else 0,
            wire_dropped=wire.dropped if wire else 0,
            trouble=f"journal: {journal.trouble}" if journal and journal.trouble else trouble,
            frames_saved=raw.n_saved,
            frames_unsaved=raw.n_unsaved,
        )

    # --- after the stream --------------------------------------------------------------------

    def _final_pass(self, live: Model | None) -> Model | None:
        if live is None:
            return None
        started_s = time.perf_counter()
        self._broadcast.state = "finishing"
        self._progress(0.0, "smoothing all tracks")

        def show(done: int, total: int) -> None:
            self._progress(done / max(total, 1), "smoothing all tracks")

        final = finish_run(self.folder, live, progress=show)
        self._broadcast.tell(
            schema.FinalMessage(
                model=model_message(final),
                n_tracks=final.n_tracks,
                n_spots=self.pipeline.counters.spots,
                seconds=time.perf_counter() - started_s,
            )
        )
        return final

    def _result(
        self, live: Model | None, final: Model | None, seconds: dict[str, float]
    ) -> RunResult:
        counters, source = self.pipeline.counters, self._stages.source
        found = self._attempt(lambda: localization_summary(self.folder, source))
        p50, p99 = counters.latency.percentiles()
        truth = getattr(source, "truth_summary", None)
        return RunResult(
            live=live,
            final=final,
            truth=truth() if truth else None,
            localization=found or NOTHING_FOUND,
            frames={
                "in": counters.frames_in,
                "processed": counters.frames_processed,
                "shed": counters.frames_shed,
                "missing": counters.frames_missing,
            },
            latency_ms={"p50": p50, "p99": p99},
            seconds=seconds,
            run=str(self.folder) if self._scratch is None else "",
            failed="; ".join(self._failures),
            control=self._control.as_json() if self._control is not None else None,
            raw=self._raw.as_json(),
        )
