"""Molecules followed in their pixels: the cells of Lin and Andersson 2021."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from livespt.camera import Camera, Ideal, Scmos
from livespt.refit import Refit, RefitError, Regions, refit
from livespt.refit.sites import scene_of, single_sd_px
from livespt.reproduce import Outcome, Row
from livespt_sim.lin2021 import PIXEL_UM, SIGMA_UM, Scene, make_scene
from livespt_sim.papers.limits import Track, limit_of

SLOW = (0.005, 0.01)
#: Molecules with --quick and without; the particle filter takes seconds for each.
_FEW, _MANY = {"smc-em": 3}, {"smc-em": 20}
_NOTES = (
    "the papers' tables of parameters are not to be had: the cells are those that match its text "
    "(100 frames of 100 ms, exposed for 10 ms, 9 x 9 pixels)",
    "paper: as these methods ran when the cells were found, 50 molecules",
)


class Found(NamedTuple):
    """A method on many molecules of one cell.

    Attributes
    ----------
    rel_rms : float or None
        Relative RMS error of D, both axes (%); None where no molecule could be fitted.
    rmse_nm : float or None
        Of positions along x.
    near : float or None
        D within 25 %, both axes (%).
    seconds : float
    refused : int
        Molecules that the method could not fit; the others make up the figures.
    """

    rel_rms: float | None
    rmse_nm: float | None
    near: float | None
    seconds: float
    refused: int


class Cell(NamedTuple):
    """One condition, and relative RMS of D (%) and RMSE of x (nm) by method."""

    name: str
    G: float
    bg: float
    D_um2_s: tuple[float, float]
    theirs: dict[str, tuple[float, float]]
    blur: bool = True
    camera: Camera | None = None


def case_1(quick: bool, seed: int) -> Outcome:
    """Lin & Andersson 2021, case 1: a bright slow molecule by each of their methods."""
    theirs = {"gf-mle": (19.5, 6.20), "u-em": (16.0, 6.32), "smc-em": (15.2, 6.16)}
    return _compare([Cell("G 100, background 10", 100, 10, SLOW, theirs)], quick, seed)


def dim(quick: bool, seed: int) -> Outcome:
    """Lin & Andersson 2021, ever dimmer molecules: where single frames no longer localize."""
    cells = [
        Cell("(10, 10)", 10, 10, SLOW, {"gf-mle": (34, 44.7), "u-em": (28, 24.2)}),
        Cell("(5, 5)", 5, 5, SLOW, {"gf-mle": (58, 96.5), "u-em": (181, 135)}),
        Cell("(3, 3)", 3, 3, SLOW, {"gf-mle": (72, 139), "u-em": (217, 265)}),
        Cell("(1, 1)", 1, 1, SLOW, {"gf-mle": (87, 210), "u-em": (299, 556)}),
    ]
    return _compare(cells, quick, seed)


def fast(quick: bool, seed: int) -> Outcome:
    """Lin & Andersson 2021, ever faster molecules: where U-EM loses them."""
    cells = [
        Cell("D 1, no blur", 100, 10, (1, 1), {"gf-mle": (16.2, 6.2), "u-em": (39, 3231)}, False),
        Cell("D 10, no blur", 100, 10, (10, 10), {"gf-mle": (16.3, 6.2)}, False),
        Cell("D 10, blur", 100, 10, (10, 10), {"gf-mle": (19, 102)}),
    ]
    return _compare(cells, quick, seed)


def slow(quick: bool, seed: int) -> Outcome:
    """Lin & Andersson 2021, a very slow molecule: D within 25 %, beside the most that can be."""
    n, rows = 6 if quick else 100, []
    for blur, name in ((False, "no blur"), (True, "blur")):
        cell = Cell(f"D .001, {name}", 100, 10, (0.001, 0.001), {}, blur)
        scenes = [_scene(cell, seed, k) for k in range(n)]
        most = _most_near(scenes[0], cell.D_um2_s[0], seed)
        ours = _run(cell, scenes, "l-ml")
        for method in ("gf-mle", "u-em"):
            theirs = _run(cell, scenes, method)
            half = (theirs.seconds + ours.seconds) / 2
            what = f"D within 25 % (%), {cell.name}, {method}"
            rows.append(Row(what, f"at most {most:.1f}", theirs.near, ours.near, half))
    notes = (
        _NOTES[0],
        "at most: of any estimator, from positions as sharp as the pixels' information allows",
        f"{n} molecules a row, two axes each",
    )
    return Outcome(rows, notes)


def _most_near(scene: Scene, D_um2_s: float, seed: int) -> float:
    """Return the share (%) within 25 % that positions of single frames permit."""
    regions = regions_of(scene, Ideal())
    sd_px = single_sd_px(scene_of(regions), (scene.photons, scene.bg_photons))
    interval_s = float(scene.t_s[1] - scene.t_s[0])
    track = Track(scene.t_s.size, interval_s, scene.exposure_s, sd_px * PIXEL_UM)
    return 100.0 * limit_of(D_um2_s, track, np.random.default_rng(seed)).within


def scmos(quick: bool, seed: int) -> Outcome:
    """Lin & Andersson 2021, an sCMOS camera, bright and dim."""
    camera = Scmos(2.2, 100.0, 6.0 / 2.2**2)
    cells = [
        Cell("high", 100, 10, SLOW, {"mle-scmos": (19.6, 6.50), "u-em": (16.0, 6.55)},
             camera=camera),
        Cell("low", 10, 10, SLOW, {"mle-scmos": (45, 71), "u-em": (99, 89)}, camera=camera),
    ]  # fmt: skip
    return _compare(cells, quick, seed)


def _compare(cells: list[Cell], quick: bool, seed: int) -> Outcome:
    n, rows, drawn = 6 if quick else 100, [], []
    for cell in cells:
        scenes = [_scene(cell, seed, k) for k in range(n)]
        ours = _run(cell, scenes, "l-ml")
        drawn.append((cell.name, "ours", ours))
        for method, (rel_rms, rmse_nm) in cell.theirs.items():
            few = (_FEW if quick else _MANY).get(method, n)
            theirs = _run(cell, scenes[:few], method)
            drawn.append((cell.name, method, theirs))
            what = f"{cell.name}, {method}"
            half = (theirs.seconds + ours.seconds) / 2
            rows += [
                Row(f"relative RMS of D (%), {what}", rel_rms, theirs.rel_rms, ours.rel_rms, half),
                Row(f"RMSE of x (nm), {what}", rmse_nm, theirs.rmse_nm, ours.rmse_nm, half),
            ]
    said = f"{n} molecules a row ({(_FEW if quick else _MANY)['smc-em']} for smc-em)"
    refused = [
        f"{method} could not fit {found.refused} molecules of {name}; they are left out"
        for name, method, found in drawn
        if found.refused
    ]
    return Outcome(rows, (*_NOTES, said, *refused), lambda figure: _draw(figure, drawn))


def _scene(cell: Cell, seed: int, k: int) -> Scene:
    rng = np.random.default_rng([seed, k])
    return make_scene(cell.G, cell.bg, cell.D_um2_s, rng, blur=cell.blur, camera=cell.camera)


def _run(cell: Cell, scenes: list[Scene], method: str) -> Found:
    began_s, off, squares, refused = time.perf_counter(), [], [], 0
    for k, scene in enumerate(scenes):
        settings = {"rng": np.random.default_rng([1, k])} if method == "smc-em" else {}
        try:
            found = refit(regions_of(scene, cell.camera or Ideal()), method, **settings)
        except RefitError:
            refused += 1
            continue
        off.append([_D(found, axis) for axis in "xy"] / np.array(cell.D_um2_s) - 1.0)
        if found.positions is not None:
            rows = found.positions
            squares.append((rows["x_um"] - scene.x_um[rows["frame"], 0]) ** 2)
    rmse_nm = 1e3 * float(np.sqrt(np.mean(np.concatenate(squares)))) if squares else None
    rel_rms = 100.0 * float(np.sqrt(np.mean(np.square(off)))) if off else None
    near = 100.0 * float((np.abs(off) < 0.25).mean()) if off else None
    return Found(rel_rms, rmse_nm, near, time.perf_counter() - began_s, refused)


def _D(found: Refit, axis: str) -> float:
    return found.parameter(f"D_{axis}_um2_s").value


def regions_of(scene: Scene, camera: Camera) -> Regions:
    """Return a scene as the refits want it, its light known."""
    return Regions(
        adu=scene.adu, corner_px=scene.corner_px, frame=np.arange(len(scene.adu)), t_s=scene.t_s,
        exposure_s=scene.exposure_s, camera=camera, pixel_um=PIXEL_UM, sigma_um=SIGMA_UM,
        photons=scene.photons, bg_photons=scene.bg_photons, source="simulated",
    )  # fmt: skip


def _draw(figure: Any, drawn: list[tuple[str, str, Found]]) -> None:
    cells = list(dict.fromkeys(name for name, _, _ in drawn))
    panels = figure.subplots(1, 2)
    for method in dict.fromkeys(method for _, method, _ in drawn):
        mine = [
            (cells.index(name), found) for name, m, found in drawn if m == method and found.rel_rms
        ]
        at = [where for where, _ in mine]
        panels[0].semilogy(at, [found.rel_rms for _, found in mine], "o", label=method)
        panels[1].semilogy(at, [found.rmse_nm for _, found in mine], "o", label=method)
    for panel, label in zip(panels, ("relative RMS of D (%)", "RMSE of x (nm)"), strict=True):
        panel.set_xticks(range(len(cells)), cells)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
        panel.set(ylabel=label)
    panels[1].legend(frameon=False)
