"""How right reported precisions are: Linden 2017, figures 2 and 3."""

from __future__ import annotations

import time
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.localize import fit_rois
from livespt.reproduce import Outcome, Row
from livespt_sim.linden2017 import CAMERA, PIXEL_UM, SIDE, SIGMA0, Cell, vectorial_images

Model = Literal["symmetric", "asymmetric"]
_NOTES = (
    "Photons and backgrounds as the paper's, D = 1 um2/s, vectorial spots in a cylinder of .8 um, "
    "EMCCD of gain 50",
    "Accepted as in the paper: within 4 px of the start, reported s.d. below 16 px, "
    "width below 9 px",
)


class Verdict(NamedTuple):
    """How one kind of fit did in one cell.

    Attributes
    ----------
    rmse_nm : float
    sd_over_rmse : float
        Root mean reported variance over RMSE.
    z_sd : float
        S.d. of errors over their reported s.d.
    accepted : float
    """

    rmse_nm: float
    sd_over_rmse: float
    z_sd: float
    accepted: float


def judge(
    adu: NDArray[np.uint16],
    truth: NDArray[np.float64],
    model: Model = "symmetric",
    method: Literal["mle", "map"] = "mle",
) -> Verdict:
    """Fit, keep what the paper keeps, and hold it against the truth."""
    fits = fit_rois(adu, CAMERA, SIGMA0, model=model, method=method)
    error = np.stack([fits["x_px"], fits["y_px"]], axis=1) - truth
    variance = np.stack([fits["covariance"][:, a, a] for a in (0, 1)], axis=1)
    return verdict_of(error, variance, fits["sigma_px"])


def verdict_of(
    error_px: NDArray[np.float64],
    variance_px2: NDArray[np.float64],
    width_px: NDArray[np.float64],
) -> Verdict:
    """Keep what the paper keeps, and hold errors (n, 2) against what was reported of them."""
    kept = (variance_px2.min(axis=1) > 0) & (variance_px2.max(axis=1) < 16.0**2)
    kept &= (np.abs(error_px).max(axis=1) < 4.0) & (width_px < SIDE)
    error, variance = error_px[kept], variance_px2[kept]
    rmse = np.sqrt(np.mean(error**2))
    return Verdict(
        float(1e3 * PIXEL_UM * rmse),
        float(np.sqrt(variance.mean()) / rmse),
        float(np.std(error / np.sqrt(variance))),
        float(kept.mean()),
    )


def short_exposures(quick: bool, seed: int) -> Outcome:
    """Linden 2017, figure 2: true against reported precision, exposures of 1 to 6 ms."""
    cells = [Cell(t, b, n) for t in (1, 3, 6) for b in (1.0, 3.0) for n in (100, 300, 600)]
    return _compare(cells, "symmetric", "mle", 1000 if quick else 8000, seed)


def long_exposures(quick: bool, seed: int) -> Outcome:
    """Linden 2017, figure 3: two widths against one where motion blurs, 10 to 22 ms."""
    cells = [Cell(t, b, n) for t in (10, 16, 22) for b in (1.0, 3.0) for n in (100, 300, 600)]
    return _compare(cells, "asymmetric", "map", 1000 if quick else 8000, seed)


def _compare(
    cells: list[Cell], model: Model, their_method: Literal["mle", "map"], n: int, seed: int
) -> Outcome:
    """Hold our MAP fits of that model against the symmetric fits that the figure starts from."""
    rng, rows, pairs = np.random.default_rng(seed), [], []
    for cell in cells:
        began_s = time.perf_counter()
        adu, truth = vectorial_images(cell, n, rng)
        theirs = judge(adu, truth, "symmetric", their_method)
        ours = judge(adu, truth, model, "map")
        pairs.append((theirs, ours))
        rows += _rows(cell, theirs, ours, time.perf_counter() - began_s)
    them = "maximum likelihood with the bound's s.d." if their_method == "mle" else "one width, MAP"
    us = f"MAP with Laplace's s.d., {'one width' if model == 'symmetric' else 'two widths'}"
    return Outcome(rows, (*_NOTES, f"theirs: {them}; ours: {us}; {n} spots a row"), _drawn(pairs))


def _rows(cell: Cell, theirs: Verdict, ours: Verdict, seconds: float) -> list[Row]:
    name = f"{cell.exposure_ms} ms, background {cell.bg:g}, {cell.photons:g} photons"
    third = seconds / 3
    return [
        Row(f"RMSE (nm), {name}", "ours lower", theirs.rmse_nm, ours.rmse_nm, third),
        Row(f"reported s.d. / RMSE, {name}", 1.0, theirs.sd_over_rmse, ours.sd_over_rmse, third),
        Row(f"s.d. of errors / reported s.d., {name}", 1.0, theirs.z_sd, ours.z_sd, third),
    ]


def _drawn(pairs: list[tuple[Verdict, Verdict]]) -> Any:
    def draw(figure: Any) -> None:
        from matplotlib.ticker import LogLocator

        left, right = figure.subplots(1, 2)
        for k, (label, mark) in enumerate((("theirs", "x"), ("ours", "o"))):
            true = [pair[k].rmse_nm for pair in pairs]
            said = [pair[k].rmse_nm * pair[k].sd_over_rmse for pair in pairs]
            left.loglog(true, said, mark, label=label, fillstyle="none")
            right.semilogx(true, [pair[k].z_sd for pair in pairs], mark, fillstyle="none")
        ends = np.array(left.get_xlim())
        left.plot(ends, ends, "k-", lw=0.8)
        right.axhline(1.0, color="k", lw=0.8)
        left.set(xlabel="true RMSE (nm)", ylabel="reported s.d. (nm)")
        right.set(xlabel="true RMSE (nm)", ylabel="s.d. of errors / reported s.d.")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        left.legend(frameon=False)

    return draw
