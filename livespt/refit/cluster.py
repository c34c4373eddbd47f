"""Refits beyond one process: one huge set of tracks over a cluster of dask.distributed.

The likelihood adds up over tracks, so each worker holds some of them and sends back a number, a
score and an information matrix for every theta that the climb asks about. Tracks are dealt in parts
of a fixed size, summed in their own order: the answer does not depend on the number of workers. A
worker that is lost has its parts sent again.

The traffic of dask.distributed is pickled and, without TLS, open to anyone on the network: bind a
scheduler to loopback, or give it certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import Array, Tracks
from livespt.infer.fit import Part, part_at
from livespt.infer.smooth import smooth_at
from livespt.refit.result import RefitError

if TYPE_CHECKING:
    from distributed import Client

#: Rows of one part; a part is filtered in about a tenth of a second.
ROWS = 50_000
#: So often may workers be lost before the fit gives up.
TRIES = 5
#: A cluster of this machine, its web page too, is seen by this machine alone, at any free port.
_LOCAL: dict[str, Any] = {
    "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0",
}  # fmt: skip


class Tls(NamedTuple):
    """Files (PEM) that prove who speaks."""

    ca: Path
    cert: Path
    key: Path


@contextmanager
def connect(
    scheduler: str = "", *, workers: int | None = None, tls: Tls | None = None
) -> Iterator[Client]:
    """Connect to a scheduler, or start a cluster of processes on this machine for the while.

    Parameters
    ----------
    scheduler : str
        As ``tcp://host:8786`` or ``tls://host:8786``; "" starts a local cluster.
    workers : int, optional
        Processes of the local cluster, one thread each; all cores unless given.
    tls : Tls, optional
        Needed for ``tls://``.

    Raises
    ------
    RefitError
        dask.distributed is not installed, no scheduler answers, or TLS without its files.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise RefitError("a cluster needs dask: pip install 'livespt[cluster]'") from None
    security = _security(scheduler, tls)
    if not scheduler:
        with LocalCluster(n_workers=workers, **_LOCAL) as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(scheduler, security=security, timeout=20)
    except (OSError, ValueError, TimeoutError) as error:
        raise RefitError(f"{scheduler}: no scheduler answers there: {error}") from None
    with client:
        yield client


def _security(scheduler: str, tls: Tls | None) -> Any:
    """Return what distributed calls Security, or None."""
    if scheduler.startswith("tls://") != (tls is not None):
        raise RefitError(
            f"{scheduler or 'a local cluster'}: tls:// and the three TLS files go together"
        )
    if tls is None:
        return None
    from distributed import Security

    for path in tls:
        if not Path(path).is_file():
            raise RefitError(f"{path}: no such file")
    return Security(
        tls_ca_file=str(tls.ca),
        tls_client_cert=str(tls.cert),
        tls_client_key=str(tls.key),
        require_encryption=True,
    )


def spread_over(client: Client, rows: int = ROWS) -> Callable[[Tracks], SpreadTracks]:
    """Return what hands tracks to the cluster: the setting `spread` of the method "history"."""
    return lambda tracks: SpreadTracks(client, tracks, rows)


class SpreadTracks:
    """Tracks that the workers of a cluster hold, filter and smooth.

    Parameters
    ----------
    client : distributed.Client
    tracks : Tracks
    rows : int
        Of one part.
    """

    def __init__(self, client: Client, tracks: Tracks, rows: int = ROWS) -> None:
        self._client = client
        self._dealt = deal(tracks, rows)
        self._held: list[Any] = []

    def parts(self, theta: Array, interval_s: float) -> list[Part]:
        """Filter all tracks at `theta`."""
        return self._map(part_at_held, theta, interval_s)

    def smooth(self, theta: Array, interval_s: float) -> NDArray[np.void]:
        """Smooth all tracks at `theta`."""
        return np.concatenate(self._map(smooth_held, theta, interval_s))

    def _map(self, work: Callable[..., Any], theta: Array, interval_s: float) -> list[Any]:
        from distributed import CancelledError, KilledWorker
        from distributed.scheduler import NoWorkerError

        for left in reversed(range(TRIES)):
            try:
                if not self._held:
                    self._held = [self._client.scatter(part, hash=False) for part in self._dealt]
                done = [
                    self._client.submit(work, part, theta, interval_s, pure=False)
                    for part in self._held
                ]
                found: Any = self._client.gather(done)
                return list(found)
            except (CancelledError, KilledWorker, NoWorkerError, OSError) as error:
                self._held = []
                if not left:
                    raise RefitError(
                        f"the cluster lost its workers again and again: {error}"
                    ) from None
        raise AssertionError("unreachable")


def deal(tracks: Tracks, rows: int) -> list[Tracks]:
    """Cut tracks into parts of whole tracks, of about `rows` rows."""
    starts = tracks.first[:-1]
    cuts = np.flatnonzero(np.diff(starts // rows, prepend=-1))
    edges = np.append(cuts, starts.size)
    return [_slice(tracks, int(a), int(b)) for a, b in pairwise(edges)]


def _slice(tracks: Tracks, a: int, b: int) -> Tracks:
    low, high = int(tracks.first[a]), int(tracks.first[b])
    columns = (tracks.t_s, tracks.exposure_s, tracks.spot, tracks.weight)
    first = tracks.first[a : b + 1] - low
    return Tracks(first, *(column[low:high] for column in columns), field=tracks.field)


def part_at_held(tracks: Tracks, theta: Array, interval_s: float) -> Part:
    """Filter the tracks that a worker holds."""
    return part_at(theta, own(tracks), interval_s)


def smooth_held(tracks: Tracks, theta: Array, interval_s: float) -> NDArray[np.void]:
    """Smooth the tracks that a worker holds; the caller names the rows."""
    labels = np.zeros(tracks.t_s.size, [("track_id", "i8"), ("frame", "i8")])
    return smooth_at(theta, labels, own(tracks), interval_s)


def own(tracks: Tracks) -> Tracks:
    """Return arrays that kernels take: those that came over the network cannot be written to."""
    return Tracks._make(np.array(column) for column in tracks)
