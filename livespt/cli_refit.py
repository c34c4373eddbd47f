"""The command `livespt refit`: tracks or a movie in, the answer of a named method out.

It stands in `livespt.cli` beside the others, which also turns its errors into one line.
"""

from __future__ import annotations

import json as plain_json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from livespt.cli_movies import Json, tell

if TYPE_CHECKING:
    from distributed import Client

    from livespt.refit import Molecules, Refit, TrackTable

#: Endings of what holds pixels, not tracks; and the file that makes a folder an NDTiff movie.
_MOVIES, _NDTIFF = (".tif", ".tiff", ".npy", ".npz"), "NDTiff.index"


class Source(NamedTuple):
    """What was given to be fitted, and what it does not tell."""

    path: Path
    frame_ms: float | None
    exposure_ms: float | None
    pixel_um: float | None
    config: Path | None = None
    least_frames: int = 10


class Where(NamedTuple):
    """On which machines a fit runs."""

    workers: int | None
    scheduler: str
    tls: tuple[Path | None, Path | None, Path | None]

    @property
    def is_here(self) -> bool:
        """No cluster was asked for."""
        return self.workers is None and not self.scheduler


def refit(
    *sources: Path,
    method: str = "history",
    states: str | None = None,
    frame_ms: float | None = None,
    exposure_ms: float | None = None,
    pixel_um: float | None = None,
    config: Path | None = None,
    least_frames: int = 10,
    widths: Annotated[bool, Parameter(negative="")] = False,
    seed: int | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,
    out: Path | None = None,
    workers: int | None = None,
    scheduler: str = "",
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    list: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Fit tracks, or a movie's pixels, anew by a named method, after the acquisition.

    Parameters
    ----------
    sources
        Tables of tracks (.csv, .parquet), run folders, or a movie.
    method
        One of --list.
    states
        Number of motion states, or auto.
    frame_ms
        Time from frame to frame; a run folder and most movies know it.
    exposure_ms
        How long of it the shutter is open; all of it if left out.
    pixel_um
        Pixel size, for tables in pixels and for movies.
    config
        Camera, optics and localization, for a movie.
    least_frames
        Methods that fit pixels leave out tracks of fewer.
    widths
        With l-ml: take the images' widths for data on D, where sigma_um is right to 1 %.
    seed
        Of the methods that draw.
    set
        A setting of the method, as name=value; once for each.
    out
        A table to write (.csv, .parquet): refined positions with the states' probabilities, or the
        single tracks' answers where the method refines nothing. A folder, for several sources.
    workers
        Processes of a cluster on this machine.
    scheduler
        Address of a dask scheduler, as tcp://host:8786 or tls://host:8786.
    tls_ca
        For tls://, three PEM files: the authority,
    tls_cert
        the certificate,
    tls_key
        and its key.
    list
        Print the methods and leave.
    """
    from livespt.refit import METHODS, RefitError
    from livespt.refit.methods import check_settings

    if list:
        about = [
            {"method": name, "needs": one.needs, "says": one.says} for name, one in METHODS.items()
        ]
        return tell({"methods": about}, [f"{a['method']:<12} {a['says']}" for a in about], json)
    if not sources:
        raise RefitError("give a table of tracks, a run folder or a movie (or --list)")
    settings = settings_of(states, seed, [*(["widths=true"] if widths else []), *(set or [])])
    check_settings(method, settings)  # before a movie is worked through
    where = Where(workers, scheduler, (tls_ca, tls_cert, tls_key))
    if len(sources) == 1:
        source = Source(sources[0], frame_ms, exposure_ms, pixel_um, config, least_frames)
        return _fit_one(source, method, settings, (out, where), json)
    reading = {"frame_ms": frame_ms, "exposure_ms": exposure_ms, "pixel_um": pixel_um}
    return _fit_many(sources, (method, settings, reading), (out, where), json)


def _fit_one(
    source: Source,
    method: str,
    settings: dict[str, Any],
    place: tuple[Path | None, Where],
    json: bool,
) -> int:
    """Fit one source, here or shared out over a cluster."""
    from livespt.refit import RefitError
    from livespt.refit import refit as fit
    from livespt.refit.cluster import spread_over
    from livespt.refit.files import write_answer
    from livespt.tables import check_place, format_of

    out, where = place
    if out is not None:
        format_of(out, among=("parquet", "csv"))
        check_place(out)
    if not where.is_here and method != "history":
        raise RefitError(f"{method}: one source is shared out by the method history alone")
    data = open_source(source, method)
    if where.is_here:
        found = fit(data, method, **settings)
    else:
        with _connected(where) as client:
            found = fit(data, method, **settings, spread=spread_over(client))
    if out is not None:
        write_answer(found, out)
    answer = found.as_json() | {"out": str(out) if out else None}
    lines = [*found.lines(), *choice_lines(found), *([f"{out}: written"] if out else [])]
    return tell(answer, lines, json)


def _fit_many(
    sources: tuple[Path, ...],
    work: tuple[str, dict[str, Any], dict[str, Any]],
    place: tuple[Path | None, Where],
    json: bool,
) -> int:
    """Fit every source on its own; the exit code says whether all went well."""
    from livespt.progress import FrameBar
    from livespt.refit import METHODS, RefitError
    from livespt.refit.many import Work, refit_many

    out, where = place
    if out is None:
        raise RefitError("several sources: give --out, a folder for their answers")
    movie = next((source for source in sources if is_movie(source)), None)
    if movie is not None:
        raise RefitError(f"{movie}: a movie is refitted by itself; give one at a time")
    if METHODS[work[0]].needs != "tracks":
        raise RefitError(f"{work[0]}: fits pixels; give one movie at a time")
    with _connected(where) as client, FrameBar() as bar:
        done = refit_many(
            sources, Work(*work), out, client, lambda n, total, name: bar(n, total, "refits")
        )
    fresh = len(done.answers) - len(done.resumed)
    lines = [
        f"{fresh} fitted, {len(done.resumed)} had their answers, {len(done.failed)} failed",
        *done.failed.values(),
        f"{out}: written",
    ]
    tell({"out": str(out), **done._asdict()}, lines, json)
    return 1 if done.failed else 0


def _connected(where: Where) -> AbstractContextManager[Client]:
    """Start or find the cluster.

    Raises
    ------
    RefitError
        None can be had; some of the TLS files were given, not all.
    """
    from livespt.refit import RefitError
    from livespt.refit.cluster import Tls, connect

    ca, cert, key = where.tls
    if ca and cert and key:
        return connect(where.scheduler, workers=where.workers, tls=Tls(ca, cert, key))
    if ca or cert or key:
        raise RefitError("--tls-ca, --tls-cert and --tls-key go together")
    return connect(where.scheduler, workers=where.workers)


def open_source(source: Source, method: str) -> TrackTable | Molecules:
    """Return what a method needs, read from what was given.

    Raises
    ------
    LivesptError
        It does not hold that, or cannot be read.
    """
    from livespt.refit import METHODS, RefitError, read_tracks

    if is_movie(source.path):
        return _open_movie(source, method)
    if METHODS[method].needs != "tracks":
        raise RefitError(
            f"{source.path}: holds no pixels, which {method} fits; give the movie: livespt refit "
            f"MOVIE --config CONFIG --method {method}"
        )
    return read_tracks(
        source.path,
        frame_ms=source.frame_ms,
        exposure_ms=source.exposure_ms,
        pixel_um=source.pixel_um,
    )


def is_movie(path: Path) -> bool:
    """Tell whether a path names pixels."""
    return path.suffix.lower() in _MOVIES or (path / _NDTIFF).is_file()


def _open_movie(source: Source, method: str) -> TrackTable | Molecules:
    """Localize and link a movie; for a method that fits pixels, cut the regions too."""
    from livespt.bulk import all_cores
    from livespt.movie_tracks import cut_movie, link_movie
    from livespt.presets import localize_config
    from livespt.progress import FrameBar
    from livespt.refit import METHODS, RefitError

    if source.least_frames < 4:
        raise RefitError(f"--least-frames: {source.least_frames}; expected 4 or more")
    given = {"optics": {"pixel_um": source.pixel_um}, "localize": {"workers": all_cores()}}
    config = localize_config(source.path, source.config, given, source.frame_ms, source.exposure_ms)
    with FrameBar() as bar:
        opened = link_movie(config, str(source.config or source.path), bar)
        for note in opened.notes:
            print(f"livespt: note: {note}", file=sys.stderr)
        if METHODS[method].needs == "tracks":
            return opened.tracks
        return cut_movie(opened, source.least_frames, METHODS[method].even, bar)


def settings_of(states: str | None, seed: int | None, more: list[str]) -> dict[str, Any]:
    """Return keywords for the method; numbers and lists are read as JSON, the rest is text.

    Raises
    ------
    RefitError
        An item is not name=value.
    """
    from livespt.refit import RefitError

    settings: dict[str, Any] = {}
    if states is not None:
        more = [f"states={states}", *more]
    if seed is not None:
        more = [f"seed={seed}", *more]
    for item in more:
        name, equals, text = item.partition("=")
        if not (name and equals and text):
            raise RefitError(f"--set {item}: expected name=value")
        try:
            settings[name] = plain_json.loads(text)
        except ValueError:
            settings[name] = text
    return settings


def choice_lines(found: Refit) -> list[str]:
    """Return the table of the choice of a model, the chosen one marked."""
    rows = found.tables.get("choice", [])
    if not rows:
        return []
    names = [n for n in ("n_parameters", "loglik", "bound", "aic", "bic") if n in rows[0]]
    lines = ["states " + "".join(f"{name:>14}" for name in names) + "   D (um2/s)"]
    chosen = len(found.tables["share_of_positions"])
    for row in rows:
        D = ", ".join(f"{d:.4g}" for d in row["D_um2_s"])
        figures = "".join(f"{float(row[name]):>14.1f}" for name in names[1:])
        first = f"{row[names[0]]:>14}" if names[0] == "n_parameters" else f"{row[names[0]]:>14.1f}"
        mark = " <" if row["states"] == chosen else ""
        lines.append(f"{row['states']:>6} {first}{figures}   {D}{mark}")
    return lines
