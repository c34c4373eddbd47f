"""The command line: one command per job, each with ``--json`` for machines.

Exit codes: 0 done; 1 the run failed on the way (what was answered is kept); 2 bad input, nothing
was started; 130 interrupted twice. An error is one line on stderr that names the culprit.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from livespt.cli_control import advise
from livespt.cli_movies import Json, calibrate, localize
from livespt.cli_refit import refit
from livespt.cli_reproduce import reproduce
from livespt.cli_tables import link
from livespt.types import LivesptError

app = cyclopts.App(
    name="livespt",
    help="Live single-particle tracking: a camera stream in, running diffusion answers out.",
    version_flags=["--version"],
)

Window = Annotated[bool, Parameter(name="--dashboard", negative="", help="Open the window.")]
Seconds = Annotated[float | None, Parameter(help="Stop after this long.")]


@app.command
def demo(
    *,
    seed: int = 1,
    seconds: float = 20.0,
    camera: Literal["scmos", "emccd", "ideal"] = "scmos",
    out: Path = Path("runs"),
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse a simulated experiment live: no hardware, no screen.

    Parameters
    ----------
    seed
        Another seed is another sample.
    seconds
        Length of the live stream.
    camera
        The simulated camera, and the pixel model used on it.
    out
        Where the run folder goes.
    """
    from livespt.presets import demo_config

    config = demo_config(seed=seed, seconds=seconds, camera=camera, folder=str(out))
    return _run(config, as_json=json, dashboard=dashboard)


@app.command
def run(
    config: Path,
    *,
    seconds: Seconds = None,
    arm: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse the stream that CONFIG describes, until it ends or Ctrl-C.

    Parameters
    ----------
    config
        A TOML file; see configs/ for ready ones.
    arm
        Let control in mode "auto" write to a real laser.
    """
    from livespt.config import ConfigError, load

    loaded = load(config)
    if seconds is not None:
        if not 0 < seconds < math.inf:
            raise ConfigError(f"--seconds: {seconds:g}; expected a time > 0")
        loaded = msgspec.structs.replace(loaded, stop_after_s=seconds)
    return _run(loaded, origin=str(config), as_json=json, dashboard=dashboard, arm=arm)


@app.command
def replay(
    movie: Path,
    *,
    config: Path | None = None,
    pixel_um: float | None = None,
    frame_ms: float | None = None,
    exposure_ms: float | None = None,
    fps: Annotated[
        float | None, Parameter(help="Frames per second; as fast as it goes if left out.")
    ] = None,
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse a recorded movie as if live, or a run folder's recorded spots once more.

    Parameters
    ----------
    movie
        TIFF, OME-TIFF, NDTiff folder, .npy or .npz stack; or a run folder.
    config
        Camera, optics and model; `source` in it is replaced by the movie.
    pixel_um
        Pixel size in the sample; overrides the config.
    frame_ms
        Time between frames; overrides the file's own.
    exposure_ms
        Exposure; the whole frame time if left out.
    """
    from livespt.journal import is_run_folder
    from livespt.offline import replay_recorded
    from livespt.presets import replay_config

    if is_run_folder(movie):
        if (config, pixel_um, frame_ms, exposure_ms, fps) != (None,) * 5 or dashboard:
            raise LivesptError(
                f"{movie}: a run folder is replayed as it was; only --json goes with it"
            )
        result = replay_recorded(movie)
        _print_result(result, as_json=json)
        return 0
    built = replay_config(
        movie, config, pixel_um=pixel_um, frame_ms=frame_ms, exposure_ms=exposure_ms, fps=fps
    )
    return _run(built, origin=str(config or movie), as_json=json, dashboard=dashboard)


@app.command
def follow(
    data_set: Path,
    *,
    config: Path | None = None,
    pixel_um: float | None = None,
    channel: int | str | None = None,
    position: int | str | None = None,
    now: Annotated[bool, Parameter(negative="", help="Pass by what is written already.")] = False,
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse a data set while Micro-Manager is writing it.

    Parameters
    ----------
    data_set
        Folder of NDTiff or of OME-TIFF image stacks, or the first file; need not be there yet.
    config
        Camera, optics and model; `source` in it is replaced by the data set.
    pixel_um
        Pixel size in the sample; overrides the config.
    channel
        Number or name of the one to take.
    position
        Number or name of the one to take.
    """
    from livespt.presets import follow_config

    axes = {"channel": channel, "position": position}
    chosen = {axis: value for axis, value in axes.items() if value is not None}
    built = follow_config(data_set, config, pixel_um=pixel_um, from_now=now, axes=chosen)
    return _run(built, origin=str(config or data_set), as_json=json, dashboard=dashboard)


@app.command
def dashboard(
    *,
    publish: str = "tcp://127.0.0.1:5570",
    command: str = "tcp://127.0.0.1:5571",
    screenshot: Path | None = None,
    json: Json = False,
) -> int:
    """Open the window on a running stream.

    Parameters
    ----------
    publish
        Where the run publishes.
    command
        Where the run takes commands.
    screenshot
        Save a picture of the window after a few seconds and leave.
    """
    try:
        from livespt.dashboard.app import main as window
    except ImportError as error:
        raise LivesptError(
            f"the dashboard needs Qt, which is not here ({error.name}): "
            "pip install 'livespt[dashboard]'"
        ) from None
    code = window(publish, command, screenshot=screenshot)
    if json:
        print(msgspec.json.encode({"exit": code}).decode())
    return code


@app.command
def recover(folder: Path, *, json: Json = False) -> int:
    """Make the folder of a run that was cut off whole, and do the final pass that it missed.

    Nothing is thrown away: what cannot be read is set aside beside it.

    Parameters
    ----------
    folder
        A run folder.
    """
    from livespt.journal import recover as mend
    from livespt.offline import finish_if_missing

    report = mend(folder)
    finished = finish_if_missing(folder)
    if json:
        answer = report.as_json() | {"final": finished}
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for stream, rows in report.streams.items():
        torn = f", {rows.rows_lost} torn (set aside)" if rows.torn_bytes else ""
        console.print(f"{stream:<10} {rows.rows_kept:>9} rows kept{torn}")
    done = ", final pass done" if finished else ""
    console.print(f"{folder}: {'recovered' if report.changed else 'was in good order'}{done}")
    return 0


@app.command
def check(config: Path, *, json: Json = False) -> int:
    """Check CONFIG, open its source, and say what would be run; nothing is started.

    Parameters
    ----------
    config
        A TOML file.
    """
    from livespt.config import load
    from livespt.excitation import check_control
    from livespt.stages import describe

    loaded = load(config)
    check_control(loaded, str(config))
    facts = describe(loaded, origin=str(config))
    if json:
        print(msgspec.json.encode(facts).decode())
    else:
        console = Console()
        for key, value in facts.items():
            if key != "notes":
                console.print(f"{key:<12} {value}")
        for note in facts["notes"]:
            console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"{config}: good")
    return 0


app.command(advise)
app.command(localize)
app.command(calibrate)
app.command(link)
app.command(reproduce)
app.command(refit)


class _RunFailed(LivesptError):
    """It began well and failed on the way; the run folder keeps what was answered."""


def _run(
    config: Any, *, as_json: bool, dashboard: bool, origin: str = "config", arm: bool = False
) -> int:
    """Run one session with the terminal view, and print its result."""
    from livespt.dashboard.beside import open_window
    from livespt.dashboard.terminal import TerminalView
    from livespt.session import Session

    console = Console(stderr=as_json)
    with (
        TerminalView(console) as view,
        Session(config, origin=origin, listeners=[view.update], arm=arm) as session,
    ):
        window = open_window(session.wire) if dashboard else None
        try:
            with _graceful_interrupt(session.stop):
                result = session.run()
        except LivesptError as error:
            raise _RunFailed(str(error)) from error
    _print_result(result, as_json=as_json)
    if window is not None:
        window.wait()
    return 1 if result.failed else 0


class _graceful_interrupt:
    """The first Ctrl-C ends the run in good order; the second leaves at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._first)

    def _first(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # on a thread: the main thread may hold, right now, the lock that closing a camera needs
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def _print_result(result: Any, *, as_json: bool) -> None:
    from livespt.dashboard.terminal import result_table

    if as_json:
        print(json.dumps(result.as_json()))
        return
    console = Console()
    console.print(result_table(result.live, result.final, result.truth))
    for line in result.lines():
        console.print(line)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; errors become one line and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        return _complain(f"{error}".splitlines()[0], arguments)
    except _RunFailed as error:
        return _complain(str(error), arguments, code=1)
    except LivesptError as error:
        return _complain(str(error), arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", arguments, code=130)
    return int(code or 0)


def _complain(message: str, arguments: list[str], code: int = 2) -> int:
    """Say what is wrong: one line on stderr, and an object on stdout for machines."""
    message = " ".join(message.split())
    print(f"livespt: {message}", file=sys.stderr)
    if "--json" in arguments:
        print(msgspec.json.encode({"error": message, "exit": code}).decode())
    return code


def entry() -> None:
    """Start from the console script."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
