"""Two states of diffusion by ExTrack's model and by ours."""

from __future__ import annotations

import time

import numpy as np

from livespt.refit import Refit, refit
from livespt.reproduce import Outcome, Row
from livespt_sim.tracks import as_table, simulate, switching_matrix


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


def _value(found: Refit, name: str) -> float | None:
    known = {parameter.name: parameter.value for parameter in found.parameters}
    return known.get(name)
