"""Pixels and motion fitted at once: joint maximum likelihood by Gaussian sites.

Model, along each axis (`livespt.infer.pixels`): x the position at the start of an exposure te, mu its
mean over the exposure; mu - x ~ N(0, 2 D te / 3), x' - x ~ N(0, 2 D dt), Cov = D te. Each frame's
exact pixel likelihood becomes a Gaussian site, place z and variance R, under its cavity, what ALL
other frames say of it, and is made anew until no site moves. Then

    ln L(D_x, D_y) = sum over frames and axes of ln N(z; m(D), P(D) + R) + ln [p(pixels | mode) / site],

which is Laplace's approximation of the likelihood; D is its maximum along each axis, on a bank of
72 values of ln D with a spline between them; intervals are those of the likelihood ratio. Positions
are averaged over the bank: what is not known of D is in their variance. There are two starts, from
the first frame on and from the last one back; the one of the higher likelihood is kept.

Where single frames are dimmer than `DIM_UM`, one Gaussian is too poor a site and the point-mass filter
(`livespt.refit.pointmass`) takes over.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from livespt.infer import pixelbankkernels as bank
from livespt.infer.pixels import (
    DIM_PX,
    FASTEST_UM2_S,
    N_BANK,
    SLOWEST_UM2_S,
    Film,
    SiteModel,
    new_film,
    typical_sd_px,
)
from livespt.refit import laplacekernels as kernels
from livespt.refit.looks import (
    Array,
    D_parameters,
    Looks,
    check,
    light_parameters,
    looks_of,
    positions_of,
)
from livespt.refit.regions import Regions
from livespt.refit.result import Refit

#: Beyond this s.d. of a single frame's position the point-mass filter takes over.
DIM_UM = 0.035
#: Sites have settled when none moves by so many of its s.d.
SETTLED, MOST_LOOPS = 0.1, 20
#: Half the 95 % quantile of chi^2 with one degree of freedom.
DROP = 1.9207


class Settled(NamedTuple):
    """Sites that agree with each other, and their evidence."""

    film: Film
    curve: Array  # (2, K) ln L along each axis on the bank
    loglik: float  # at the top of both
    loops: int  # less than 0: they did not settle


class Curve(NamedTuple):
    """D along one axis: top of the likelihood's curve, s.e. and 95 % interval, um2/s."""

    D: float
    sd: float
    low: float
    high: float
    inside: bool  # the top is not an end of the bank


def bank_px2(pixel_um: float) -> Array:
    """Return the bank of D in squared pixels a second."""
    return np.geomspace(SLOWEST_UM2_S, FASTEST_UM2_S, N_BANK) / pixel_um**2


def settle(
    looks: Looks, sigma_px: float, light: tuple[float, float], D_px2_s: Array, start: Array | None
) -> Settled:
    """Make sites until they agree.

    Parameters
    ----------
    looks : Looks
    sigma_px : float
    light : (photons, bg_photons)
    D_px2_s : (K,) float64
    start : (n, 2) float64 or None
        Modes from an earlier run, from each region's first pixel, to go on from.
    """
    forth = _film(looks, sigma_px, light, D_px2_s)
    model = _model(looks, sigma_px, light)
    n = len(looks.d)
    if start is not None:
        forth.at[:n] = start
    kernels.start(forth, n, model)
    first = _settled(forth, n, model)
    back = _film(_reversed(looks), sigma_px, light, D_px2_s)
    kernels.start(back, n, model)
    if _same(forth, back, n):
        return first
    other = _film(looks, sigma_px, light, D_px2_s)
    other.sites[:], other.at[:] = back.sites[::-1], back.at[::-1]
    second = _settled(other, n, model)
    return second if second.loglik > first.loglik else first


def _film(looks: Looks, sigma_px: float, light: tuple[float, float], D_px2_s: Array) -> Film:
    n, side = len(looks.d), math.isqrt(looks.d.shape[1])
    film = new_film(side, sigma_px, light, float(looks.v.mean()), D_px2_s, n)
    film.d[:], film.v[:], film.origin[:] = looks.d, looks.v, looks.origin
    film.t_s[:], film.te_s[:] = looks.t_s, looks.te_s
    return film


def _model(looks: Looks, sigma_px: float, light: tuple[float, float]) -> SiteModel:
    side = math.isqrt(looks.d.shape[1])
    sd_px = typical_sd_px(sigma_px, light[0], light[1] + float(looks.v.mean()), side)
    return SiteModel(sigma_px, sd_px > DIM_PX, False)


def _reversed(looks: Looks) -> Looks:
    """Return the frames from the last to the first: a free path backward is as likely."""
    ends = -(looks.t_s + looks.te_s)
    d, v, origin = (np.ascontiguousarray(x[::-1]) for x in (looks.d, looks.v, looks.origin))
    return Looks(d, v, origin, ends[::-1].copy(), looks.te_s[::-1].copy())


def _same(forth: Film, back: Film, n: int) -> bool:
    """Tell whether the backward start found, within an s.d., what the forward one settled on."""
    off = back.sites[n - 1 :: -1, :, 0] - forth.sites[:n, :, 0]
    return bool((off**2 < forth.sites[:n, :, 1]).all())


def _settled(film: Film, n: int, model: SiteModel) -> Settled:
    tops = np.zeros(2)
    loops = kernels.settle(film, n, model, SETTLED, MOST_LOOPS, tops)
    bank.smooth(film, 0, n - 1, False)
    curve = film.log_weights + tops[:, None]
    loglik = float(curve.max(axis=1).sum() + kernels.offsets(film, n, model))
    return Settled(film, curve, loglik, loops)


def read_curve(D: Array, curve: Array) -> Curve:
    """Return top, standard error and interval of a curve of ln L over the bank."""
    x = np.log(D)
    spline = CubicSpline(x, curve)
    fine = np.linspace(x[0], x[-1], 20 * x.size)
    values = spline(fine)
    best = int(values.argmax())
    top, inside = fine[best], 0 < best < fine.size - 1
    bend = float(spline(top, 2))
    if inside:
        top -= float(np.clip(spline(top, 1) / min(bend, -1e-6), -0.02, 0.02))
    sd = min((-bend) ** -0.5 if bend < 0 else 10.0, 10.0)
    above = np.flatnonzero(values >= values[best] - DROP)
    value = math.exp(top)
    return Curve(value, value * sd, math.exp(fine[above[0]]), math.exp(fine[above[-1]]), inside)


def l_ml(regions: Regions) -> Refit:
    """Fit D along each axis from the pixels of all frames at once.

    Parameters
    ----------
    regions : Regions
    """
    check(regions)
    looks, unit = looks_of(regions), regions.pixel_um
    light = (regions.photons, regions.bg_photons)
    D_px2_s = bank_px2(unit)
    found = settle(looks, regions.sigma_um / unit, light, D_px2_s, None)
    n = len(looks.d)
    curves = [read_curve(D_px2_s * unit**2, c) for c in found.curve]
    smoothed = found.film.smoothed[:, :n]
    cov = np.stack([smoothed[0, :, 1], smoothed[1, :, 1], np.zeros(n)], 1)
    return Refit(
        method="", parameters=D_parameters(*np.array([c[:4] for c in curves]).T)+light_parameters(light,None), loglik=found.loglik,
        status="ok" if found.loops > 0 else "not converged", message="", n_iterations=abs(found.loops), n_tracks=1,
        n_positions=n, left_out={}, positions=positions_of(regions, smoothed[:, :, 0].T, cov, np.arange(n)),
        evidence={}, tables={}, seconds=0.0, provenance={},
    )
