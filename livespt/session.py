"""One run, from a config to a run folder and a final answer.

The order matters: everything that can be wrong with the input is found before anything is
written, kernels are compiled before the camera is armed, and whatever happens afterwards the
journal is closed in good order and the final pass is tried on what there is.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

import livespt
from livespt import config as configuration
from livespt.camera import Camera
from livespt.config import Config, ConfigError
from livespt.infer import OnlineFilter
from livespt.journal import Journal
from livespt.link import Linker
from livespt.localize import Localizer
from livespt.pipeline import Pipeline
from livespt.results import RunResult, model_json
from livespt.sinks import BroadcastSink, JournalSink, Listener
from livespt.sources import BufferedSource, Source, open_source
from livespt.types import Event, Model, StreamItem
from livespt.wire import Publisher, schema

__all__ = ["Session", "describe", "open_stages"]


class Stages(NamedTuple):
    """The stages of one run, built and checked, nothing started."""

    source: Source
    camera: Camera
    localizer: Localizer
    linker: Linker
    online: OnlineFilter
    pixel_um: float


def open_stages(config: Config, origin: str = "config") -> Stages:
    """Build every stage that `config` names, and check that they fit together.

    Raises
    ------
    LivesptError
        One line that names the file or key at fault. The source is closed again.
    """
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
    online = OnlineFilter(config.infer.n_states, info.interval_s, config=config.infer)
    return Stages(source, camera, localizer, linker, online, pixel_um)


def _known(given: float, source: Source, name: str, origin: str) -> float:
    value = given or float(getattr(source, name, 0.0) or 0.0)
    if value <= 0:
        hint = "" if name == "pixel_um" else " (or optics.wavelength_um and numerical_aperture)"
        raise ConfigError(f"{origin}: optics.{name}: not given, and the source does not know it{hint}")
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
            "pixel_um": stages.pixel_um,
            "n_states": config.infer.n_states,
        }
    finally:
        stages.source.close()


class Session:
    """A run that can be watched, stopped, and that always leaves its folder in order.

    Parameters
    ----------
    config : Config
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
        self, config: Config, *, origin: str = "config", listeners: Sequence[Listener] = ()
    ) -> None:
        self.config = config
        self._stages = open_stages(config, origin)
        self._publisher: Publisher | None = None
        self._stopping = threading.Event()
        try:
            if config.wire.enabled:
                self._publisher = Publisher(config.wire.publish, config.wire.command)
            self._journal = self._open_journal()
        except BaseException:
            self.close()
            raise
        self.folder: Path = self._journal.folder
        if self._publisher is not None:
            self._publisher.run = self.folder.name
            listeners = [self._publisher.send, *listeners]
        self._stream = self._buffered()
        self._broadcast = BroadcastSink(
            listeners, image_every_s=config.wire.image_every_s, gauges=self._gauges
        )
        sinks = [JournalSink(self._journal), self._broadcast, _CommandSink(self)]
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

    def stop(self) -> None:
        """End the stream in good order; the final pass still runs. Any thread may call."""
        self._stopping.set()
        self.pipeline.stop()
        self._stream.close()

    def close(self) -> None:
        """Let go of the camera, the ports and the folder."""
        self._stages.source.close()
        if hasattr(self, "_journal"):
            self._journal.close()
        if self._publisher is not None:
            self._publisher.close()

    def run(self) -> RunResult:
        """Compile, stream, smooth; return the answer. The folder is in order afterwards."""
        self._broadcast.tell(self._hello())
        self._warm_up()
        failed = self._run_stream()
        live = self.pipeline.last.model if self.pipeline.last else None
        self._journal.commit()
        final, seconds = self._final_pass(live)
        result = self._result(live, final, failed)
        self._journal.close(summary=result.as_json())
        self._broadcast.state = "failed" if failed else "done"
        if final is not None:
            self._broadcast.tell(final_message(final, seconds, self.pipeline.counters.spots))
        self._broadcast.tick(self.pipeline.counters)
        return result

    def open_dashboard(self) -> subprocess.Popen[bytes]:
        """Open the window as a process of its own."""
        wire = self._publisher
        if wire is None:
            raise ConfigError("wire.enabled: the dashboard needs the wire")
        command = [sys.executable, "-m", "livespt", "dashboard"]
        command += ["--publish", wire.publish_address, "--command", wire.command_address]
        return subprocess.Popen(command)  # noqa: S603 (our own program)
