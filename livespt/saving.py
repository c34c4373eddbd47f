"""Raw saving of a run, from its config: where, how much, and how long the disk lasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livespt.config import ConfigError
from livespt.journal import Journal
from livespt.raw import NOTHING_SAVED, RawError, RawWriter, Saver, Standing
from livespt.sections import Config
from livespt.sources import Source
from livespt.sources.saving import SavingSource
from livespt.types import Event, LivesptError

#: Frames that may wait at least, whatever `buffer_mb` says.
_LEAST = 8


class RawSaving:
    """A run's raw saving, or none.

    Parameters
    ----------
    config : Config
    origin : str
        Where it came from, for messages.

    Raises
    ------
    ConfigError
        What can be told to be wrong before anything is opened.
    """

    def __init__(self, config: Config, origin: str) -> None:
        self._config, self._origin = config, origin
        self._saver: Saver | None = None
        chosen = config.raw
        if chosen.save and not config.journal.enabled and not chosen.folder:
            raise ConfigError(
                f"{origin}: raw.save: the run folder is not kept (journal.enabled = false): "
                "give raw.folder"
            )

    def tap(self, source: Source, journal: Journal, pixel_um: float) -> Source:
        """Return the source with its frames saved on their way, if that was asked for.

        Raises
        ------
        ConfigError
            The folder cannot be made, or the disk has no room; the journal is discarded.
        """
        if not self._config.raw.save:
            return source
        try:
            self._saver = self._open(source, journal.folder, pixel_um)
        except LivesptError:
            journal.discard()
            raise
        note = _outlook(self._saver.writer, source.info.interval_s, self._config.stop_after_s)
        return SavingSource(source, self._saver.take, Event("note", 0.0, -1, 0, note))

    @property
    def standing(self) -> Standing:
        """How it goes; any thread may ask."""
        return self._saver.standing if self._saver is not None else NOTHING_SAVED

    def end(self) -> list[Event]:
        """Write what waits, end the files, and return what is still to be told."""
        return self._saver.end() if self._saver is not None else []

    def as_json(self) -> dict[str, Any] | None:
        """Return what was saved, for the result of a run; None where nothing was to be."""
        if self._saver is None:
            return None
        now, writer = self.standing, self._saver.writer
        return {
            "path": str(writer.path) if now.n_saved else "",
            "parts": writer.n_parts,
            "frames": now.n_saved,
            "unsaved": now.n_unsaved,
            "bytes": now.n_bytes,
            "trouble": now.trouble,
        }

    def _open(self, source: Source, run: Path, pixel_um: float) -> Saver:
        chosen, info = self._config.raw, source.info
        folder = Path(chosen.folder).expanduser() / run.name if chosen.folder else run
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writer = RawWriter(folder, info, pixel_um, chosen.part_gb, chosen.keep_free_gb)
            if writer.free_bytes() * info.interval_s < writer.form.n_bytes:
                raise ConfigError(
                    f"{self._origin}: raw.save: {folder} has no room for a second of frames "
                    f"({writer.form.n_bytes / info.interval_s / 1e6:.3g} MB) beside the "
                    f"{chosen.keep_free_gb:g} GB of raw.keep_free_gb"
                )
            n_frames = max(_LEAST, int(1e6 * chosen.buffer_mb) // writer.form.n_bytes)
            return Saver(writer, n_frames, waits=not info.paced)
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"{self._origin}: raw.folder: {folder}: {why}") from None
        except RawError as error:
            raise ConfigError(f"{self._origin}: {error}") from None


def _outlook(writer: RawWriter, interval_s: float, wanted_s: float | None) -> str:
    """Say how long the disk lasts."""
    per_s = writer.form.n_bytes / interval_s
    lasts_s = writer.free_bytes() / per_s
    room = f"room for {lasts_s:.3g} s"
    if wanted_s and wanted_s > lasts_s:
        room += f" of the {wanted_s:g} s of stop_after_s"
    return f"raw frames go to {writer.path}: {per_s / 1e6:.3g} MB/s, the disk has {room}"
