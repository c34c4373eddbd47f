"""Two states of diffusion by ExTrack's model and by ours."""

from __future__ import annotations

import time

import numpy as np

from livespt.refit import Refit, refit
from livespt.reproduce import Outcome, Row
from livespt_sim.tracks import as_table, simulate, switching_matrix
from livespt_sim.view import View, simulate_view


def extrack_states(quick: bool, seed: int) -> Outcome:
    """ExTrack: D .05 and 1 um2/s at continuous exposure, where a model without blur is low."""
    n, rng = 200 if quick else 1000, np.random.default_rng(seed)
    T = switching_matrix((0.0198, 0.0198))
    scene = simulate(rng, (n, 20), (0.05, 1.0), T, 0.02, dt_s=0.02, exposure_s=0.02)
    data = as_table(scene)
    began_s = time.perf_counter()
    theirs = refit(data, "extrack", blur=False)
    middle_s = time.perf_counter()
    ours = refit(data, "history")
    seconds = (middle_s - began_s, time.perf_counter() - middle_s)
    paper = {"D_um2_s[0]": 0.054, "D_um2_s[1]": 0.69}
    rows = [
        Row(name, paper.get(name), _value(theirs, called), _value(ours, name), sum(seconds) / 5)
        for name, called in (
            ("D_um2_s[0]", "D_um2_s[0]"),
            ("D_um2_s[1]", "D_um2_s[1]"),
            ("p_switch[0,1]", "rate[0,1]"),
            ("p_switch[1,0]", "rate[1,0]"),
        )
    ]
    rows.append(Row("time of the fit (s)", 455.0, seconds[0], seconds[1], sum(seconds) / 5))
    notes = (
        f"{n} tracks of 20 positions, 20 ms, errors of 20 nm, p .0198 a frame; table level",
        "theirs are rates per frame, 1 - exp(-rate) the probability",
        "paper: ExTrack 1.6.3 itself on 1000 such tracks; theirs, here: our `extrack`, its model "
        "without blur",
    )
    return Outcome(rows, notes)


def extrack_view(quick: bool, seed: int) -> Outcome:
    """ExTrack: tracks that end by bleaching or where the molecule leaves the depth of focus."""
    n, rng = 150 if quick else 600, np.random.default_rng(seed)
    D, p, view = (0.02, 0.5), 0.05, View(depth_um=0.5, p_bleach=0.05)
    seen = simulate_view(rng, (n, 200), D, switching_matrix((p, p)), 0.02, view)
    fits, seconds = [], []
    for method, settings in (
        ("extrack", {"cell_um": (view.depth_um,), "blur": False, "frame_len": 5}),
        ("extrack", {"cell_um": (), "blur": False, "frame_len": 5}),
        ("history", {}),
    ):
        began_s = time.perf_counter()
        fits.append(refit(seen.table, method, **settings))
        seconds.append(time.perf_counter() - began_s)
    knows, blind, ours = fits
    rate = -float(np.log1p(-p))
    rows = []
    for name, called, true in (
        ("D_um2_s[0]", "D_um2_s[0]", D[0]),
        ("D_um2_s[1]", "D_um2_s[1]", D[1]),
        ("p_switch[0,1]", "rate[0,1]", rate),
        ("p_switch[1,0]", "rate[1,0]", rate),
        ("p_bleach", "p_bleach", view.p_bleach),
    ):
        for how, theirs in (("depth told", knows), ("depth not told", blind)):
            rows.append(
                Row(f"{name}, {how}", f"truth {true:.3g}", _value(theirs, called),
                    _value(ours, name), sum(seconds) / 10)
            )  # fmt: skip
    tracks = seen.table
    notes = (
        f"{tracks.n_tracks} tracks of 3 positions and more, {tracks.x_um.size} positions, 20 ms, "
        "errors of 20 nm, no blur, seen through .5 um of depth; table level",
        "theirs: our `extrack`, with that depth as a cell dimension and without; theirs are rates "
        "per frame, 1 - exp(-rate) the probability",
        "ours: `history`, which knows nothing of ends: fast molecules leave sooner, so that it "
        "takes switching to the slow state for more frequent than it is",
    )
    return Outcome(rows, notes)


def _value(found: Refit, name: str) -> float | None:
    known = {parameter.name: parameter.value for parameter in found.parameters}
    return known.get(name)
