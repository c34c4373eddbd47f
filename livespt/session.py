"""One run, from a config to a run folder and a final answer.

The order matters: everything that can be wrong with the input is found before anything is
written, kernels are compiled before the camera is armed, and whatever happens afterwards the
journal is closed in good order and the final pass is tried on what there is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

import livespt
from livespt import config as configuration
from livespt.camera import Camera
from livespt.config import Config, ConfigError
from livespt.infer import OnlineFilter, warm_up_smoother
from livespt.journal import Journal
from livespt.link import Linker
from livespt.localize import Localizer
from livespt.offline import finish_run, localization_summary
from livespt.pipeline import Pipeline, Sink
from livespt.results import RunResult
from livespt.sinks import BroadcastSink, CommandSink, Gauges, JournalSink, Listener
from livespt.sources import BufferedSource, Source, open_source
from livespt.types import Event, LivesptError, Model
from livespt.wire import Publisher, schema
from livespt.wire.messages import model_message


class Stages(NamedTuple):
    """The stages of one run, built and checked, nothing started.

    `config` is what was asked for, with what the source knew filled in.
    """

    config: Config
    source: Source
    camera: Camera
    localizer: Localizer
    linker: Linker
    online: OnlineFilter


def open_stages(config: Config, origin: str = "config", source: Source | None = None) -> Stages:
    """Build every stage that `config` names, and check that they fit together.

    A `source` that is given takes the place of the one that `config` names.

    Raises
    ------
    LivesptError
        One line that names the file or key at fault. The source is closed again.
    """
    if source is None:
        source = open_source(config.source.kind, dict(config.source.options), origin=origin)
    try:
        return _stages(config, source, origin)
    except BaseException:
        source.close()
        raise


def _stages(config: Config, source: Source, origin: str) -> Stages:
    info = source.info
    camera = configuration.build_camera(
        config.camera, info.shape, getattr(source, "camera", None), origin
    )
    camera.check(info.shape)
    pixel_um = _known(config.optics.pixel_um, source, "pixel_um", origin)
    sigma_um = _known(config.optics.psf_sigma_um, source, "sigma_um", origin)
    localizer = Localizer(
        camera,
        pixel_um,
        sigma_um,
        info.shape,
        false_per_frame=config.localize.false_per_frame,
        roi_px=config.localize.roi_px,
    )
    field_um = (info.shape[0] * pixel_um, info.shape[1] * pixel_um)
    linker = Linker(info.interval_s, field_um=field_um, overrides=config.link)
    online = OnlineFilter(
        config.infer.n_states, info.interval_s, field_um=field_um, config=config.infer
    )
    optics = msgspec.structs.replace(config.optics, pixel_um=pixel_um, sigma_um=sigma_um)
    resolved = msgspec.structs.replace(config, optics=optics)
    return Stages(resolved, source, camera, localizer, linker, online)


def _known(given: float, source: Source, name: str, origin: str) -> float:
    value = given or float(getattr(source, name, 0.0) or 0.0)
    if value <= 0:
        hint = "" if name == "pixel_um" else " (or optics.wavelength_um and numerical_aperture)"
        raise ConfigError(
            f"{origin}: optics.{name}: not given, and the source does not know it{hint}"
        )
    return value


def describe(config: Config, origin: str = "config") -> dict[str, Any]:
    """Open and check all that `config` names, close it again, and say what it is."""
    stages = open_stages(config, origin)
    try:
        info = stages.source.info
        return {
            "source": info.name,
            "shape": list(info.shape),
            "interval_s": info.interval_s,
            "exposure_s": info.exposure_s,
            "n_frames": info.n_frames,
            "paced": info.paced,
            "camera": type(stages.camera).__name__.lower(),
            "pixel_um": stages.config.optics.pixel_um,
            "n_states": config.infer.n_states,
        }
    finally:
        stages.source.close()


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
        Get every message, beside the wire.

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
    ) -> None:
        self._stages = open_stages(config, origin, source)
        self.config = self._stages.config
        self._publisher: Publisher | None = None
        self._journal: Journal | None = None
        self._warm = False
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._stream = self._buffered()
            if config.wire.enabled:
                self._publisher = Publisher(config.wire.publish, config.wire.command)
            self._journal = journal = self._open_journal()
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
            gauges=self._gauges,
        )
        sinks: list[Sink] = [JournalSink(journal), self._broadcast]
        if self._publisher is not None:
            sinks.append(CommandSink(self._publisher, self.stop))
        self.pipeline = Pipeline(
            self._stages.localizer,
            self._stages.linker,
            self._stages.online,
            sinks,
            workers=config.localize.workers,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def wire(self) -> Publisher | None:
        """Where the run publishes and takes commands; None where that is switched off."""
        return self._publisher

    def stop(self) -> None:
        """End the stream in good order; the final pass still runs. Any thread may call."""
        self.pipeline.stop()
        self._stream.close()

    def close(self) -> None:
        """Let go of the camera, the ports and the folder."""
        self._stages.source.close()
        try:
            if self._journal is not None:
                self._journal.close()
        finally:
            if self._publisher is not None:
                self._publisher.close()
            if self._scratch is not None:
                self._scratch.cleanup()

    def warm_up(self) -> None:
        """Say hello and compile every kernel; `run` does it where it was not done before.

        Call it before a camera that is not the session's own begins to send.
        """
        if self._warm:
            return
        self._warm = True
        self._broadcast.tell(self._hello())
        self._compile()

    def run(self) -> RunResult:
        """Compile, stream, smooth; return the answer. The folder is in order afterwards."""
        assert self._journal is not None
        self.warm_up()
        clock = [time.perf_counter()]
        failed = self._run_stream()
        clock.append(time.perf_counter())
        live = self.pipeline.last.model if self.pipeline.last else None
        self._journal.commit()
        final = self._final_pass(live)
        clock.append(time.perf_counter())
        seconds = {"stream": clock[1] - clock[0], "final": clock[2] - clock[1]}
        result = self._result(live, final, failed, seconds)
        self._journal.close(summary=result.as_json())
        self._broadcast.state = "failed" if failed else "done"
        self._broadcast.tick(self.pipeline.counters)
        return result

    def open_dashboard(self) -> subprocess.Popen[bytes]:
        """Open the window as a process of its own."""
        wire = self._publisher
        if wire is None:
            raise ConfigError("wire.enabled: the dashboard needs the wire")
        command = [sys.executable, "-m", "livespt", "dashboard"]
        command += ["--publish", wire.publish_address, "--command", wire.command_address]
        return subprocess.Popen(command)

    # --- before the stream -------------------------------------------------------------------

    def _buffered(self) -> Source:
        source = self._stages.source
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
            n_states=self.config.infer.n_states,
            folder="" if self._scratch else str(self.folder),
        )

    def _compile(self) -> None:
        """Compile every kernel before the camera is armed, and show it."""
        stages = self._stages
        parts: tuple[Any, ...] = (
            stages.source,
            stages.localizer,
            stages.linker,
            stages.online,
        )
        steps = [(type(p).__name__, p.warm_up) for p in parts if hasattr(p, "warm_up")]
        info, n_states = stages.source.info, self.config.infer.n_states
        steps.append(("smoother", lambda: warm_up_smoother(n_states, info.interval_s)))
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

    def _run_stream(self) -> str:
        """Run to the end; return why it ended early, or ""."""
        info = self._stages.source.info
        limits = [self.config.stop_after_frames or 0]
        if self.config.stop_after_s:
            limits.append(configuration.frames_for(self.config.stop_after_s, info.interval_s))
        max_frames = min((n for n in limits if n), default=None)
        try:
            self.pipeline.run(self._stream.frames(), max_frames)
        except LivesptError as error:
            return self._note_failure(str(error))
        except Exception as error:  # noqa: BLE001 (journalled, shown, and the final pass still runs)
            return self._note_failure(f"{type(error).__name__}: {error}")
        finally:
            self._stream.close()
        return ""

    def _note_failure(self, why: str) -> str:
        event = Event("failed", self.pipeline.counters.t_s, -1, 0, why)
        for sink in self.pipeline.sinks:
            sink.event(event)
        return why

    def _gauges(self) -> Gauges:
        journal, wire = self._journal, self._publisher
        ring = self._stream.ring if isinstance(self._stream, BufferedSource) else None
        return Gauges(
            ring_used=ring.n_waiting if ring else 0,
            ring_size=ring.n_frames if ring else 0,
            journal_bytes=journal.n_bytes if journal else 0,
            wire_dropped=wire.dropped if wire else 0,
            trouble=f"journal: {journal.trouble}" if journal and journal.trouble else "",
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
        self, live: Model | None, final: Model | None, failed: str, seconds: dict[str, float]
    ) -> RunResult:
        counters = self.pipeline.counters
        p50, p99 = counters.latency.percentiles()
        truth = getattr(self._stages.source, "truth_summary", None)
        return RunResult(
            live=live,
            final=final,
            truth=truth() if truth else None,
            localization=localization_summary(self.folder, self._stages.source),
            frames={
                "in": counters.frames_in,
                "processed": counters.frames_processed,
                "shed": counters.frames_shed,
                "missing": counters.frames_missing,
            },
            latency_ms={"p50": p50, "p99": p99},
            seconds=seconds,
            run=str(self.folder) if self._scratch is None else "",
            failed=failed,
        )
