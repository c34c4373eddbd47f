"""The exact pixel likelihood on a grid of places: a point-mass filter and smoother.

Each frame's likelihood is worked out at every node of a grid over its region (each pixel's own
gain, offset and read variance; an EMCCD's table), so that a frame may say "here or there". Between
frames places spread by Gaussian steps of variance 2 D (dt - te/3), the displacement's of a mean
over the exposure; that neighbouring displacements are correlated by D te/3 is left out, which costs
little unless the shutter is open most of the time. The image is widened by D te/3. The first place
is anywhere in its region.

D along x and y are those of the highest likelihood; intervals are those of the likelihood ratio
along each axis. Positions are averaged over nine pairs of D, weighed by their likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from livespt.camera import Emccd
from livespt.localize.table import PER_Z, table_of
from livespt.refit import pointmasskernels as kernels
from livespt.refit.curve import Curve, read_curve
from livespt.refit.looks import Array, Looks
from livespt.refit.regions import Regions
from livespt.refit.result import RefitError

#: Nodes a pixel, at least and at most; s.d. of a single frame's position in nodes.
LEAST_PER_PX, MOST_PER_PX, NODES_PER_SD = 4, 12, 0.8
#: D is looked for between these, um2/s.
SLOWEST_UM2_S, FASTEST_UM2_S = 1e-4, 1e2
_APART = 1.5  # s.d. of ln D between the values that positions are averaged over


class Grid(NamedTuple):
    """Likelihood maps of all frames, and what leads from frame to frame."""

    likelihood: Array  # (n, M, M) over its highest
    top: float  # sum of the logs of the highest
    dt: Array  # (n,) s; the first is not used
    shifts: NDArray[np.int64]  # (n, 2) nodes
    per_px: int
    space: tuple  # workspace of the kernels
    alpha: Array


class OnGrid(NamedTuple):
    """The fit on a grid; pixels."""

    D_px2_s: Array  # (2,)
    curves: tuple[Curve, Curve]
    loglik: float
    converged: bool
    n_iterations: int
    mean_px: Array  # (n, 2) in the frame
    cov_px2: Array  # (n, 3)


def checked_nodes(per_px: int) -> int:
    """Return the nodes a pixel that were asked for.

    Raises
    ------
    RefitError
        Neither 0 nor 2 to 16.
    """
    if per_px != 0 and not 2 <= per_px <= 16:
        raise RefitError(f"per_px: {per_px}; expected 2 to 16, or 0 to choose")
    return per_px


def nodes_for(sd_px: float) -> int:
    """Return how many nodes a pixel tell positions of that s.d. apart."""
    return int(np.clip(math.ceil(NODES_PER_SD / sd_px), LEAST_PER_PX, MOST_PER_PX))


def make_grid(
    regions: Regions, looks: Looks, light: tuple[float, float], widths_px: Array, per_px: int
) -> Grid:
    """Work out the likelihood at every node of every frame; widths (2,) of the image, pixels."""
    n, side, _ = regions.adu.shape
    size = side * per_px
    shares = np.empty((2, size, side))
    for a in range(2):
        kernels.fill_shares(
            shares[a], float(widths_px[a]), float(per_px), side, np.empty((3, side))
        )
    maps = np.empty((n, size, size))
    given = np.array(light, dtype=np.float64)
    if isinstance(regions.camera, Emccd):
        table = table_of(regions.camera)
        counts = regions.adu.reshape(n, -1).astype(np.float64) - regions.camera.offset_adu
        for t in range(n):
            kernels.fill_map_table(counts[t], given, table, PER_Z, shares[0], shares[1], maps[t])
    else:
        for t in range(n):
            kernels.fill_map(looks.d[t], looks.v[t], given, shares[0], shares[1], maps[t])
    tops = np.empty(n)
    kernels.to_likelihood(maps, tops)
    dt = np.diff(looks.t_s, prepend=looks.t_s[0] - 1.0) - regions.exposure_s / 3
    shifts = np.diff(regions.corner_px, axis=0, prepend=regions.corner_px[:1]) * per_px
    space = (np.empty((2, 2 * size + int(np.abs(shifts).max()) + 2)), np.empty(2, np.int64))
    grids = (np.empty((size, size)), np.empty((size, size)))
    return Grid(
        maps, float(tops.sum()), dt, shifts.astype(np.int64), per_px, space + grids,
        np.empty_like(maps),
    )  # fmt: skip


def log_likelihood(grid: Grid, D_px2_s: Array) -> float:
    """Return ln L, up to what no fit changes."""
    D = D_px2_s * grid.per_px**2
    ln = kernels.run(grid.likelihood, D, grid.dt, grid.shifts, grid.space, grid.alpha)
    return ln + grid.top


def fit_on_grid(regions: Regions, grid: Grid, start_px2_s: Array) -> OnGrid:
    """Fit D along both axes and smooth the positions."""
    unit2 = regions.pixel_um**2
    ends = np.log(np.array([SLOWEST_UM2_S, FASTEST_UM2_S]) / unit2)

    def minus(q: Array) -> float:
        return -log_likelihood(grid, np.exp(np.clip(q, *ends)))

    first = np.clip(np.log(start_px2_s), ends[0] + 1, ends[1] - 1)
    simplex = first + np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]])
    found = minimize(
        minus, first, method="Nelder-Mead",
        options={"xatol": 0.01, "fatol": 1e-3, "initial_simplex": simplex, "maxiter": 200},
    )  # fmt: skip
    top = np.clip(found.x, *ends)
    sides = [_along(minus, top, a) for a in range(2)]
    curves = tuple(read_curve(np.exp(x) * unit2, ln) for x, ln in sides)
    mean, cov = _positions(regions, grid, [_spread(x, ln) for x, ln in sides])
    inside = bool((top > ends[0] + 0.01).all() and (top < ends[1] - 0.01).all())
    return OnGrid(
        np.exp(top), (curves[0], curves[1]), -float(found.fun), bool(found.success) and inside,
        int(found.nit), mean, cov,
    )  # fmt: skip


def _along(minus: Callable[[Array], float], top: Array, axis: int) -> tuple[Array, Array]:
    """Return ln D and ln L along one axis through the top, as far as L matters."""
    step = np.zeros(2)
    step[axis] = 0.15
    bend = (minus(top + step) + minus(top - step) - 2 * minus(top)) / 0.15**2
    sd = min(max(bend, 1e-9) ** -0.5, 2.0)
    x = top[axis] + np.linspace(-4.0, 3.5, 13) * sd
    ln = []
    for value in x:
        at = top.copy()
        at[axis] = value
        ln.append(-minus(at))
    return x, np.array(ln)


def _spread(x: Array, ln: Array) -> tuple[float, float]:
    """Return mean and s.d. of ln D by its likelihood."""
    w = np.exp(ln - ln.max())
    w /= w.sum()
    mean = float(w @ x)
    return mean, float(np.sqrt(w @ (x - mean) ** 2))


def _positions(
    regions: Regions, grid: Grid, spreads: list[tuple[float, float]]
) -> tuple[Array, Array]:
    """Return smoothed means and covariances in pixels, averaged over D."""
    (mx, sx), (my, sy) = spreads
    pairs = [
        np.array([mx + _APART * sx * i, my + _APART * sy * j])
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    ln = np.array([log_likelihood(grid, np.exp(p)) for p in pairs])
    moments = np.zeros((len(grid.likelihood), 6))
    weights = np.exp(ln - ln.max())
    for pair, weight in zip(pairs, weights / weights.sum(), strict=True):
        if weight > 1e-3:
            D = np.exp(pair) * grid.per_px**2
            move = (D, grid.dt, grid.shifts, grid.space, grid.alpha)
            kernels.run(grid.likelihood, *move)
            kernels.smooth(grid.likelihood, *move, weight, moments)
    m = moments[:, 1:] / moments[:, :1]
    mean = (m[:, :2] + 0.5) / grid.per_px - 0.5 + regions.corner_px
    cov = np.stack([m[:, 2] - m[:, 0] ** 2, m[:, 3] - m[:, 1] ** 2, m[:, 4] - m[:, 0] * m[:, 1]], 1)
    return mean, cov / grid.per_px**2
