"""Pixels and motion fitted at once: joint maximum likelihood by Gaussian sites.

Model, along each axis (`livespt.infer.pixels`): x the position at the start of an exposure te, mu
its mean over the exposure; mu - x ~ N(0, 2 D te / 3), x' - x ~ N(0, 2 D dt), Cov = D te. Each
frame's exact pixel likelihood becomes a Gaussian site, place z and variance R, under its cavity,
what ALL other frames say of it, and is made anew until no site moves. Then

    ln L = sum over frames and axes of ln N(z; m(D), P(D) + R) + ln [p(pixels | mode) / site],

which is Laplace's approximation of the likelihood; D is its maximum along each axis, on a bank of
72 values of ln D with a spline between them; intervals are those of the likelihood ratio. Positions
are averaged over the bank: what is not known of D is in their variance. There are two starts, from
the first frame on and from the last one back; the one of the higher likelihood is kept.

Frames that motion smears by more than a tenth of the spot's variance are fitted with the path in
their exposure (`livespt.refit.pathkernels`). An EMCCD's pixels enter as the shifted Poisson numbers
that have the score and information of its table at the mode. Where single frames are dimmer than
`DIM_UM` one Gaussian is too poor a site, and the point-mass filter (`livespt.refit.pointmass`)
takes over. Photons and background that are not given are fitted too, the same in all frames.

The curve above knows D from displacements alone. On demand the widths of the images are data too
(`livespt.refit.widths`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.refit import pointmass, sites
from livespt.refit.curve import Curve, read_curve
from livespt.refit.looks import (
    AXES,
    Array,
    D_parameters,
    check,
    light_parameters,
    positions_of,
)
from livespt.refit.pointmass import OnGrid
from livespt.refit.regions import Regions
from livespt.refit.result import Parameter, Refit, RefitError
from livespt.refit.sites import Light, Scene, Settled
from livespt.refit.widths import added, evidence

#: Beyond this s.d. of a single frame's position the point-mass filter takes over.
DIM_UM = 0.035
#: The spot's width is worked out once more where the new D changes its variance by this share.
_WIDER = 0.02


class Begun(NamedTuple):
    """Light and settled sites: where l-ml ends, and where other fits of the pixels begin."""

    scene: Scene
    light: Light
    parameters: tuple[Parameter, ...]  # of the light
    light_settled: bool
    settled: Settled
    curves: tuple[Curve, Curve]  # um2/s


class Ended(NamedTuple):
    """What a fit, by sites or on a grid, ended with."""

    curves: tuple[Curve, Curve]  # um2/s
    loglik: float
    done: bool
    n_rounds: int
    mean_px: Array
    cov_px2: Array


def begin(regions: Regions) -> Begun:
    """Check regions, fit the light where it is not given, and settle the sites."""
    check(regions)
    scene = sites.scene_of(regions)
    known = (regions.photons, regions.bg_photons)
    if known[0] is None or known[1] is None:
        light, sds, still = sites.fit_light(scene, known)
    else:
        light, sds, still = (known[0], known[1]), (0.0, 0.0), True
    settled = sites.settle(scene, light)
    D = scene.D_px2_s * regions.pixel_um**2
    curves = (read_curve(D, settled.curve[0]), read_curve(D, settled.curve[1]))
    return Begun(scene, light, light_parameters(light, sds), still, settled, curves)


def l_ml(
    regions: Regions,
    widths: bool = False,
    seed: int = 0,
    rng: np.random.Generator | None = None,
) -> Refit:
    """Fit D along each axis from the pixels of all frames at once; on a grid where they are dim.

    Parameters
    ----------
    regions : Regions
    widths : bool
        Take the images' widths for data on D too: sharper where motion smears the frames, but only
        where `sigma_um` is right to 1 %.
    seed : int
        Of the images that are drawn for the widths, where no generator is given.
    rng : numpy.random.Generator, optional

    Returns
    -------
    Refit
        `D_x_um2_s`, `D_y_um2_s`, `photons`, `bg_photons`; positions with their variances. With
        widths there is no `loglik`.

    Raises
    ------
    RefitError
        Regions that cannot be used; widths of a molecule that stands still in the exposure.
    """
    if widths and regions.exposure_s == 0:
        raise RefitError(f"{regions.source}: widths say nothing of D where exposure_s is 0")
    begun = begin(regions)
    sd_um = sites.single_sd_px(begun.scene, begun.light) * regions.pixel_um
    if sd_um > DIM_UM:
        said = f"single frames tell places to {1e3 * sd_um:.0f} nm: on a grid (point-mass)"
        return _on_grid(regions, begun, said + ", without widths" * widths)
    settled, n = begun.settled, len(begun.scene.looks.d)
    smoothed = settled.film.smoothed[:, :n]
    cov = np.stack([smoothed[0, :, 1], smoothed[1, :, 1], np.zeros(n)], axis=1)
    done = settled.loops > 0
    message = "" if done else f"sites still moved after {-settled.loops} loops"
    mean = smoothed[:, :, 0].T
    ended = Ended(begun.curves, settled.loglik, done, abs(settled.loops), mean, cov)
    found = _answer(regions, begun, ended, message)
    if not widths:
        return found
    chance = np.random.default_rng(seed) if rng is None else rng
    found = _with_widths(regions, begun, found, chance)
    return found._replace(provenance={"seed": seed if rng is None else "given rng"})


def _with_widths(regions: Regions, begun: Begun, found: Refit, rng: np.random.Generator) -> Refit:
    """Add what the widths say of D; the positions stay."""
    unit2, bank = regions.pixel_um**2, begun.scene.D_px2_s
    low, high = min(c.low for c in begun.curves), max(c.high for c in begun.curves)
    places = begun.settled.film.smoothed[:, : found.n_positions, 0].T
    more, n = evidence(regions, begun.light, places, bank, (low / unit2, high / unit2), rng)
    if n == 0:
        said = "the widths say nothing of D: too slow, too fast, or not to be fitted"
        return found._replace(message="; ".join(filter(None, [found.message, said])))
    pairs = zip(begun.settled.curve, more, strict=True)
    curves = [read_curve(bank * unit2, added(regions, bank, *pair)) for pair in pairs]
    columns = np.array([curve[:4] for curve in curves]).T
    said = f"the widths of {n} frames are data too, so that there is no likelihood"
    return found._replace(
        parameters=D_parameters(*columns) + begun.parameters,
        loglik=None,
        message="; ".join(filter(None, [found.message, said])),
    )


def point_mass(regions: Regions, per_px: int = 0) -> Refit:
    """Fit D along each axis with the exact pixel likelihood on a grid of places.

    Parameters
    ----------
    regions : Regions
    per_px : int
        Nodes a pixel along each axis, 2 to 16; 0: as single frames' precision asks for. Time grows
        with its cube.

    Returns
    -------
    Refit
        As `l_ml`.

    Raises
    ------
    RefitError
        Regions that cannot be used.
    """
    per_px = pointmass.checked_nodes(per_px)
    return _on_grid(regions, begin(regions), "", per_px)


def _on_grid(regions: Regions, begun: Begun, message: str, per_px: int = 0) -> Refit:
    per_px = per_px or pointmass.nodes_for(sites.single_sd_px(begun.scene, begun.light))
    unit2 = regions.pixel_um**2
    D = np.array([c.D for c in begun.curves]) / unit2
    found = _once_on_grid(regions, begun, D, per_px)
    for _ in range(2):
        widths = sites.widths_of(begun.scene, D)
        D = found.D_px2_s
        if (np.abs((sites.widths_of(begun.scene, D) / widths) ** 2 - 1.0) < _WIDER).all():
            break
        found = _once_on_grid(regions, begun, D, per_px)
    ended = Ended(
        found.curves, found.loglik, found.converged, found.n_iterations, found.mean_px,
        found.cov_px2,
    )  # fmt: skip
    return _answer(regions, begun, ended, message)


def _once_on_grid(regions: Regions, begun: Begun, D_px2_s: Array, per_px: int) -> OnGrid:
    """Fit on the grid with the image as wide as D makes it."""
    widths = sites.widths_of(begun.scene, D_px2_s)
    grid = pointmass.make_grid(regions, begun.scene.looks, begun.light, widths, per_px)
    return pointmass.fit_on_grid(regions, grid, D_px2_s)


def _answer(regions: Regions, begun: Begun, ended: Ended, message: str) -> Refit:
    said = [message] if message else []
    for axis, curve in zip(AXES, ended.curves, strict=True):
        if not curve.inside:
            said.append(f"D along {axis} is at an end of what was searched")
    if not begun.light_settled:
        said.append("photons and background did not settle")
    done = ended.done and begun.light_settled and all(curve.inside for curve in ended.curves)
    n = len(begun.scene.looks.d)
    columns = np.array([curve[:4] for curve in ended.curves]).T
    return Refit(
        method="", parameters=D_parameters(*columns) + begun.parameters, loglik=ended.loglik,
        status="ok" if done else "not converged", message="; ".join(said),
        n_iterations=ended.n_rounds, n_tracks=1, n_positions=n, left_out={},
        positions=positions_of(regions, ended.mean_px, ended.cov_px2, np.arange(n)),
        evidence={}, tables={}, seconds=0.0, provenance={},
    )  # fmt: skip
