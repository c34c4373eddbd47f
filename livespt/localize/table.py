"""The likelihood of an electron-multiplying camera as a table over (count, rate) (SCIENCE 2).

The exact score of `livespt.camera.Emccd` is a sum over electrons, hundreds of microseconds a pixel;
a fit asks for it thousands of times. Here it is worked out once per camera on a grid, kept on disk
beside the compiled kernels, and read back by bilinear interpolation. What is stored is chosen to
be nearly linear between nodes:

- m(c, E) = E[n|c, E], which for F = 2 is about sqrt(E c/g); the score is m/E - 1;
- ln q + (2/F)(sqrt(c/g) - sqrt(E))^2, the log-likelihood less its bright-limit parabola;
- E I(E), the information, which runs from ~1 (dark) through ~0.63 to 1/F (bright).

Axes are stretched so that a step is a fixed share of the local noise. The grid covers every count
that the converter can read out; rates above it are clamped, rates below 1e-3 too.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np

import livespt
from livespt import camera as camera_module
from livespt.camera import Emccd
from livespt.jit import cache_dir, code_dir
from livespt.localize import table_kernels as kernels
from livespt.localize.lane_table_kernels import LaneTable
from livespt.localize.table_kernels import Table

#: Nodes per standard deviation of the count, and per unit of the stretched rate.
PER_Z = 5.0
PER_W = 4.0
_MIN_RATE = 1e-3
_MAX_RATE = 2500.0
_MIN_READ_ADU = 0.1


@functools.lru_cache(maxsize=1)
def no_table() -> Table:
    """Return the stand-in for cameras whose likelihood is Poisson of shifted data."""
    empty, none = np.zeros((2, 2)), np.zeros(2)
    for array in (empty, none):  # read-only as a real one's: one type, compiled once
        array.setflags(write=False)
    return Table(empty, empty, none, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0)


@functools.lru_cache(maxsize=8)
def table_of(camera: Emccd) -> Table:
    """Return the table of `camera`: kept in this process, and on disk beside the kernels."""
    path = _stored_at(camera)
    table = _load(path) if path else None
    if table is None:
        table = _make(camera)
        if path:
            _store(path, table)
    for array in (table.mean_n, table.rest, table.info):
        array.setflags(write=False)
    return table


def _make(camera: Emccd) -> Table:
    """Work the table out: about a second."""
    gain, excess = camera.gain_adu_per_e, camera.excess
    readout = max(camera.readout_adu, _MIN_READ_ADU)
    sd = max(readout / 3.0, 0.3)  # the grid is finest where read noise meets first electrons
    top = min((65535.0 - camera.offset_adu) / gain, _MAX_RATE)
    z = np.arange(
        -kernels.KNEE * 2.5 * PER_Z, kernels.stretch_count(top * gain, gain, sd, excess) * PER_Z + 2
    )
    counts = np.array([kernels.count_at(v / PER_Z, gain, sd, excess) for v in z])
    w_min = math.floor(kernels.stretch_rate(_MIN_RATE))  # E = 1, where w bends, is a node
    n_w = math.ceil((kernels.stretch_rate(1.3 * top) - w_min) * PER_W) + 2
    rates = np.array([kernels.rate_at(w_min + k / PER_W) for k in range(n_w)])
    size = (counts.size, rates.size)
    mean_n, rest, log_q = np.empty(size), np.empty(size), np.empty(size)
    kernels.fill(counts, rates, gain, readout, excess, mean_n, rest, log_q)
    info = _information(camera, rates)
    z_min = float(z[0]) / PER_Z
    return Table(
        mean_n, rest, info, gain, camera.offset_adu, sd, excess, z_min, float(w_min), PER_W, 1
    )


@functools.lru_cache(maxsize=1)
def no_lane_table() -> LaneTable:
    """As `no_table`, for the lanes."""
    empty = np.zeros(4, np.float32)
    return LaneTable(empty, empty, empty, 2, 0.0, 1.0, 0.0, 1.0, 0)


@functools.lru_cache(maxsize=8)
def lane_table_of(camera: Emccd) -> LaneTable:
    """Return the table of `camera` in float32, with the place of every count."""
    table = table_of(camera)
    counts = np.arange(65536.0) - camera.offset_adu
    place = np.empty(counts.size, np.float32)
    kernels.fill_places(counts, PER_Z, table, place)
    variance = (camera.readout_adu / camera.gain_adu_per_e) ** 2
    cells = np.zeros((*table.mean_n.shape, 8), np.float32)
    for first, values in ((0, table.mean_n), (4, table.rest)):
        for corner, (dz, dw) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            part = values[dz:, dw:]
            cells[: part.shape[0], : part.shape[1], first + corner] = part
    info = np.ascontiguousarray(table.info, np.float32)
    n_w = table.info.size
    return LaneTable(
        cells.ravel(), info, place, n_w, table.w_min, table.per_w, variance, 2.0 / camera.excess, 1
    )


def _stored_at(camera: Emccd) -> Path | None:
    """Return where the table lies: named by the camera's numbers and by all code that makes it."""
    try:
        folder = code_dir(Path(livespt.__file__).parent, cache_dir()) / "tables"
        folder.mkdir(exist_ok=True)
        code = Path(__file__).read_bytes() + Path(camera_module.__file__).read_bytes()
    except OSError:
        return None  # nowhere to write, or no sources: worked out in each process
    numbers = (camera.gain_adu_per_e, camera.excess, camera.readout_adu, camera.offset_adu)
    named = hashlib.sha256(repr(numbers).encode() + code).hexdigest()[:16]
    return folder / f"{named}.npz"


def _store(path: Path, table: Table) -> None:
    """Write the table in one step: who reads sees all of it or nothing."""
    part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    try:
        with part.open("wb") as file:
            np.savez(file, **table._asdict())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def _load(path: Path) -> Table | None:
    """Read a table; None where there is none, or where it is torn (its parts carry checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            fields = {name: stored[name] for name in Table._fields}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Table(**{k: v if v.ndim else v.item() for k, v in fields.items()})


def _information(camera: Emccd, rates: np.ndarray) -> np.ndarray:
    """Return E I(E): exact at a few rates, interpolated in the stretched rate between them."""
    knots = np.r_[np.geomspace(rates[0], 1.0, 16), np.geomspace(1.2, 60.0, 14)]
    stretched = np.array([kernels.stretch_rate(r) for r in rates])
    at = np.array([kernels.stretch_rate(r) for r in knots])
    clean = Emccd(camera.gain_adu_per_e, camera.excess, camera.readout_adu, 1e3)
    exact = knots * clean.fisher(knots)
    spread = (max(camera.readout_adu, _MIN_READ_ADU) / camera.gain_adu_per_e) ** 2
    bright = rates / (camera.excess * rates + spread)  # Gaussian limit, from 60 e on
    scale = exact[-1] / (knots[-1] / (camera.excess * knots[-1] + spread))
    bright *= 1.0 + (scale - 1.0) * knots[-1] / np.maximum(rates, knots[-1])
    return np.where(rates > knots[-1], bright, np.interp(stretched, at, exact))
