"""How right reported precisions are on beads that lie still: Linden 2017, figure 4.

As the paper has it: the truth of a dim frame is interpolated between the mean positions of the
blocks of bright frames before and after it, by the same fits; every bead gives one point, its RMSE
against the root mean variance reported of its dim frames.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import electron_maps
from livespt.localize import fit_rois, posterior
from livespt.reproduce import Outcome, Row
from livespt_sim.beads import N_BRIGHT, SIGMA0, Film, film, optics
from livespt_sim.linden2017 import CAMERA, PIXEL_UM, SIDE, Array
from livespt_sim.papers.precision import Verdict, verdict_of

CRLB, LAPLACE, MAP, OURS = "MLE, CRLB formula", "MLE, Laplace", "MAP, Laplace", "ours"
THEIRS = (CRLB, LAPLACE, MAP)
#: Photons of dim frames; each class has beads spread over its span.
CLASSES = ((40, 80), (80, 160), (160, 320), (320, 640))
_NOTES = (
    "beads simulated, for the paper's films are not to be had: .1 um, 80 nm pixels, NA 1.49, 10 of "
    "100 frames ten times as bright, .7 photons per pixel in the others; the truth is interpolated "
    "between blocks of bright frames, as in the paper",
    "assumed: light of 545 nm, 40 to 640 photons in a dim frame, an EMCCD of gain 50, up to .15 um "
    "out of focus, a drift of 30 nm with a random walk of .2 nm a frame",
    "paper: its figure has no numbers in the text, which prefers Laplace to the formula and calls "
    "the prior good; 1 is consistency",
    "ours: our default, maximum likelihood with one width; under priors it is the row of MAP",
)


class Places(NamedTuple):
    """Fits of one kind: positions (n, 2) from the region's centre, variances (n, 2), widths."""

    at_px: Array
    variance_px2: Array
    width_px: Array


class Bead(NamedTuple):
    """One bead: what each estimator did, and how far the interpolated truth is off by it (nm)."""

    verdicts: dict[str, Verdict]
    truth_nm: float


def still_beads(quick: bool, seed: int) -> Outcome:
    """Linden 2017, figure 4: true against reported precision of immobile beads, dim and bright."""
    rng, rows, drawn = np.random.default_rng(seed), [], []
    n_beads, n_frames, through = 2 if quick else 12, 310 if quick else 1000, optics()
    for low, high in CLASSES:
        began_s = time.perf_counter()
        photons = low * (high / low) ** ((np.arange(n_beads) + 0.5) / n_beads)
        beads = [judged(film(float(N), n_frames, through, rng)) for N in photons]
        drawn += beads
        rows += _rows(f"{low} to {high} photons", beads, time.perf_counter() - began_s)
    said = f"{n_beads} beads a row, {n_frames} frames each; rows hold medians of beads"
    return Outcome(rows, (*_NOTES, said), lambda figure: _draw(figure, drawn))


def judged(seen: Film) -> Bead:
    """Hold dim frames' positions against those interpolated between blocks of bright frames."""
    lit = np.flatnonzero(seen.bright)
    when = np.flatnonzero(~seen.bright[: lit[-1]])  # later ones lie between no two blocks
    sharp, verdicts, off_px = estimates(seen.adu[lit]), {}, np.zeros(0)
    for name, found in estimates(seen.adu[when]).items():
        truth = interpolated(sharp[name].at_px, lit, when)
        verdicts[name] = verdict_of(found.at_px - truth, found.variance_px2, found.width_px)
        off_px = truth - seen.at_px[when] if name == MAP else off_px
    return Bead(verdicts, float(1e3 * PIXEL_UM * np.sqrt(np.mean(off_px**2))))


def estimates(adu: NDArray[np.uint16]) -> dict[str, Places]:
    """Return fits of regions (n, P, P) by the paper's three estimators and by our default."""
    mle = _by_laplace(adu)
    x, y, N, b, width = mle.theta.T
    middle = np.stack([x, y], axis=1) - SIDE // 2
    formula = crlb_px2(N, b, width)
    places = {
        CRLB: Places(middle, np.stack([formula, formula], axis=1), width),
        LAPLACE: Places(middle, mle.covariance[:, [0, 1], [0, 1]], width),
    }
    for name, method in ((MAP, "map"), (OURS, "mle")):
        fits = fit_rois(adu, CAMERA, SIGMA0, method=method)
        at = np.stack([fits["x_px"], fits["y_px"]], axis=1)
        places[name] = Places(at, fits["covariance"][:, [0, 1], [0, 1]], fits["sigma_px"])
    return places


def _by_laplace(adu: NDArray[np.uint16]) -> posterior.Posterior:
    """Return maximum likelihood with Laplace's precision; none where a fit did not converge."""
    maps = np.stack([np.full((1, SIDE * SIDE), m) for m in electron_maps(CAMERA)])
    counts = np.ascontiguousarray(adu.reshape(len(adu), -1))
    return posterior.fit_counts(counts, maps, CAMERA, SIGMA0, "symmetric", "mle", False)[0]


def crlb_px2(photons: Array, bg: Array, sigma_px: Array) -> Array:
    """Return Rieger and Stallinga's formula for an EMCCD (Linden's equation 5), pixels squared."""
    wide = sigma_px**2 + 1 / 12
    tau = 2 * np.pi * bg * wide / photons
    return 2 * wide / photons * (1 + 4 * tau + np.sqrt(2 * tau / (1 + 4 * tau)))


def interpolated(at_px: Array, lit: NDArray[np.int64], when: NDArray[np.int64]) -> Array:
    """Return positions (m, 2) at frames `when` from those (n, 2) of whole blocks at `lit`."""
    middle = lit.reshape(-1, N_BRIGHT).mean(axis=1)
    mean = at_px.reshape(-1, N_BRIGHT, 2).mean(axis=1)
    return np.stack([np.interp(when, middle, mean[:, a]) for a in (0, 1)], axis=1)


def _rows(name: str, beads: list[Bead], seconds: float) -> list[Row]:
    """Return a class of beads, medians."""

    def median(field: str, kind: str) -> float:
        return float(np.median([getattr(bead.verdicts[kind], field) for bead in beads]))

    each = seconds / (2 * len(THEIRS) + 1)
    rows = []
    for what, field, paper in (
        ("reported s.d. / RMSE", "sd_over_rmse", 1.0),
        ("s.d. of errors / reported s.d.", "z_sd", 1.0),
    ):
        ours = median(field, OURS)
        rows += [
            Row(f"{what}, {name}, {kind}", paper, median(field, kind), ours, each)
            for kind in THEIRS
        ]
    sharp = [bead.truth_nm / bead.verdicts[MAP].rmse_nm for bead in beads]
    truth = Row(f"interpolated truth's RMSE / that of dim frames, {name}", "about 0.1",
               float(np.median(sharp)), None, each)  # fmt: skip
    return [*rows, truth]


def _draw(figure: Any, beads: list[Bead]) -> None:
    from matplotlib.ticker import LogLocator

    panels = figure.subplots(1, 2)
    for kind, mark in ((CRLB, "x"), (LAPLACE, "+"), (MAP, "o"), (OURS, "s")):
        true = np.array([bead.verdicts[kind].rmse_nm for bead in beads])
        ratio = np.array([bead.verdicts[kind].sd_over_rmse for bead in beads])
        panels[0].loglog(true, true * ratio, mark, label=kind, fillstyle="none")
        panels[1].semilogx(true, ratio, mark, fillstyle="none")
    ends = np.array(panels[0].get_xlim())
    panels[0].plot(ends, ends, "k-", lw=0.8)
    panels[1].axhline(1.0, color="k", lw=0.8)
    panels[0].set(xlabel="true RMSE (nm)", ylabel="reported s.d. (nm)")
    panels[1].set(xlabel="true RMSE (nm)", ylabel="reported s.d. / RMSE")
    for axis in (panels[0].xaxis, panels[0].yaxis, panels[1].xaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    panels[0].legend(frameon=False)
