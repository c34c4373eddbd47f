"""Refits of many sources, side by side, each into its own file; what is done is not done again.

Each source is read where it is fitted, so workers on other machines need the same paths. A source
that cannot be read or fitted is reported and stops none of the others. Beside each answer stands
what it was made from; a source whose answer is from the same file, method and settings is left be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

import livespt
from livespt.refit.result import RefitError
from livespt.types import LivesptError

if TYPE_CHECKING:
    from distributed import Client

    from livespt.refit.result import Refit

#: Called with (sources done, sources in all, name of the last).
Progress = Callable[[int, int, str], None]
#: So many fits wait per worker: more would only hold memory.
_AHEAD = 2


class Work(NamedTuple):
    """What is done to every source.

    Attributes
    ----------
    method : str
    settings : dict
        Of the method.
    reading : dict
        Keywords of `read_tracks`.
    """

    method: str
    settings: dict[str, Any]
    reading: dict[str, Any]


class Done(NamedTuple):
    """What became of all sources, by path."""

    answers: dict[str, dict[str, Any]]
    resumed: list[str]
    failed: dict[str, str]


def refit_many(
    sources: Sequence[Path],
    work: Work,
    out: Path,
    client: Client,
    progress: Progress = lambda done, total, name: None,
) -> Done:
    """Fit every source on a cluster; write `<name>.json` and `<name>.parquet` into `out`.

    Parameters
    ----------
    sources : sequence of Path
        Tables of tracks or run folders, of different names.
    work : Work
    out : Path
        A folder; made if it is not there.
    client : distributed.Client
    progress : callable, optional

    Returns
    -------
    Done

    Raises
    ------
    RefitError
        Two sources of one name, or no folder can be made there.
    """
    names = name_all(sources)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefitError(f"{out}: no folder can be made there: {error.strerror}") from None
    done = Done({}, [], {})
    open_, total = [], len(sources)
    for source in sources:
        before = answered(source, work, out / f"{names[source]}.json")
        if before is None:
            open_.append(source)
        else:
            done.answers[str(source)] = before
            done.resumed.append(str(source))
    for source, found in _as_they_come(open_, work, client):
        if isinstance(found, str):
            done.failed[str(source)] = found
        else:
            done.answers[str(source)] = write(found, out / names[source])
        progress(len(done.answers) + len(done.failed), total, str(source))
    return done


def name_all(sources: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each source's files.

    Raises
    ------
    RefitError
        Two have the same.
    """
    names: dict[str, Path] = {}
    for source in sources:
        other = names.setdefault(source.stem, source)
        if other != source:
            raise RefitError(f"{source}: its answer would be named as that of {other}")
    return {source: name for name, source in names.items()}


def made_from(source: Path, work: Work) -> dict[str, Any]:
    """Return what an answer depends on: the file as it is now, the method and its settings."""
    about = [
        [str(path.relative_to(source)) if path != source else "", *_stamp(path)]
        for path in sorted([source, *source.rglob("*")] if source.is_dir() else [source])
        if path.is_file()
    ]
    return {"files": about, "livespt": livespt.__version__, **work._asdict()}


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def answered(source: Path, work: Work, path: Path) -> dict[str, Any] | None:
    """Return the answer that stands in `path` already, if it is of the same source and work."""
    try:
        before = msgspec.json.decode(path.read_bytes())
        same = msgspec.json.decode(msgspec.json.encode(made_from(source, work)))
    except (OSError, msgspec.DecodeError):
        return None
    return before if before.get("made_from") == same else None


def fit_source(source: Path, work: Work) -> tuple[Refit, dict[str, Any]] | str:
    """Read and fit one source, on a worker; a bad one gives its error."""
    from livespt.refit import read_tracks, refit

    try:
        stamp = made_from(source, work)
        data = read_tracks(source, **work.reading)
        return refit(data, work.method, **work.settings), stamp
    except LivesptError as error:
        return str(error)


def write(found: tuple[Refit, dict[str, Any]], stem: Path) -> dict[str, Any]:
    """Write an answer, the positions first: an answer that is there is whole."""
    from livespt.refit.files import table_of
    from livespt.tables import write_table

    answer, stamp = found
    plain = answer.as_json() | {"made_from": stamp}
    table = table_of(answer)
    if table is not None:
        write_table(table, stem.with_name(stem.name + ".parquet"))
    path = stem.with_name(stem.name + ".json")
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(plain)))
    os.replace(temporary, path)
    return plain


def _as_they_come(
    sources: Sequence[Path], work: Work, client: Client
) -> Iterator[tuple[Path, tuple[Refit, dict[str, Any]] | str]]:
    """Yield each source with what came of it; only a few wait at a time."""
    from distributed import as_completed

    waiting = iter(sources)
    ahead = _AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

    def send(source: Path) -> Any:
        return client.submit(fit_source, source, work, pure=False)

    running = {send(source): source for _, source in zip(range(ahead), waiting, strict=False)}
    stream = as_completed(list(running))
    for future in stream:
        source = running.pop(future)
        error = future.exception()
        yield source, f"{source}: {error}" if error else future.result()
        nearest = next(waiting, None)
        if nearest is not None:
            after = send(nearest)
            running[after] = nearest
            stream.add(after)
