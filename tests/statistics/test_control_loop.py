"""The closed loop on the simulated microscope, un-paced: the figures that control promises.

World, stages, controller and the guard's own state machine, as in `control_scene`; the process
border has tests of its own. Seeds are fixed; tolerances are those of the promise.
"""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.control.law import TargetLaw

sys.path.insert(0, str(Path(__file__).parents[1]))  # control_scene.py

from control_scene import BOUNDS, Loop

LOG = logging.getLogger("control")
DEMO = {"scene": "demo"}
#: Reached at a power near 0.85 in the scene `demo`.
TARGET_UM, POWER = 0.0065, 0.85
#: Slow enough that precision decides what a frame tells of D: s.d. of the best use of light,
#: (sqrt 3 D dt)^(1/2) = 8.3 nm.
SLOW = {"scene": "demo", "D_um2_s": [0.002]}
BEST_UM = 0.0083


def law(target_um: float = TARGET_UM) -> TargetLaw:
    return TargetLaw(target_um, BOUNDS)


def overshoot(table: np.ndarray, target: float, *, from_below: bool) -> float:
    """Return by how much the precision went beyond the target, on the far side of the start."""
    ratio = table[:, 2] / target
    return float(np.max(1 / ratio if from_below else ratio) - 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("off", [1 / 9, 1 / 3, 3.0, 9.0])
def test_the_target_is_reached_within_8_s_from_3x_off_in_power_and_in_precision(off, seed):
    """9x in power is 3x in precision."""
    loop = Loop({**DEMO, "seed": seed, "excitation": off * POWER}, law()).run(14.0)
    reached_s = loop.controller.reached_s
    assert reached_s is not None
    assert reached_s <= 8.0
    beyond = overshoot(loop.table, TARGET_UM, from_below=off < 1)
    writes = [e.t_s for e in loop.events if "asked for" in e.message]
    LOG.info(
        f"off {off:.2f} seed {seed}: {reached_s:.2f} s, beyond {beyond:.3f}, {len(writes)} writes"
    )
    assert beyond <= 0.2
    assert np.diff(writes).min(initial=math.inf) >= 1.0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("tau_s", [30 / math.log(3), 60 / math.log(3)])
def test_the_target_is_held_while_the_light_fades_to_a_third(seed, tau_s):
    """In 30 s and in 60 s; from the window on in which the target was reached."""
    options = {**DEMO, "seed": seed, "photons_tau_s": tau_s}
    loop = Loop(options, law()).run(tau_s * math.log(3))
    table = loop.table
    assert loop.controller.reached_s is not None
    held = table[table[:, 0] >= loop.controller.reached_s, 2] / TARGET_UM
    LOG.info(
        f"fades in {tau_s * math.log(3):.0f} s, seed {seed}: {held.min():.3f} to {held.max():.3f}"
    )
    assert held.min() >= 0.9
    assert held.max() <= 1.1


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_power_is_not_raised_where_more_light_no_longer_helps(seed):
    """Molecules saturate, the background does not; the target cannot be had."""
    options = {**DEMO, "seed": seed, "excitation": 0.3, "saturation": 1.0, "background_e": 6.0}
    loop = Loop(options, law()).run(30.0)
    powers = loop.table[:, 1]
    LOG.info(f"seed {seed}: stopped at {powers[-1]:.2f}, highest {powers.max():.2f}")
    assert any("background-limited" in event.message for event in loop.events)
    assert powers.max() <= 4.0  # of 20 that the limits allow
    assert np.ptp(powers[-10:]) == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_dose_is_never_above_its_budget_and_lasts(seed):
    """The target asks for 17; in 20 planned seconds and 10 beyond them."""
    options = {**DEMO, "seed": seed, "excitation": 0.3}
    loop = Loop(options, law(), dose=10.0, planned_s=20.0).run(30.0)
    at_end = loop.table[np.searchsorted(loop.table[:, 0], 19.0), 1]
    LOG.info(f"seed {seed}: dose {loop.dose:.3f}, power at 19 s {at_end:.2f}")
    assert loop.dose <= 10.0
    assert loop.dose > 9.0
    assert at_end > 0.3  # not spent early


def width(loop: Loop) -> float:
    """Return the s.d. of ln D that the run's own answer claims."""
    assert loop.model is not None
    low, high = loop.model.D_95[0]
    return math.log(high / low) / 3.92


def fixed(seed: int, power: float, seconds: float, **options: float) -> Loop:
    return Loop({**SLOW, "seed": seed, "excitation": power, **options}, None).run(seconds)


def steered(seed: int, power: float, **options: float) -> Loop:
    return Loop({**SLOW, "seed": seed, "excitation": power, **options}, law(BEST_UM)).run(30.0)


def gains(scene: str, seeds: range) -> np.ndarray:
    """Return s.d. of ln D of a fixed power over that of the law, at the same dose."""
    found = []
    for seed in seeds:
        if scene == "fades":
            ours = steered(seed, 0.55, photons_tau_s=30 / math.log(3))
            theirs = fixed(seed, ours.dose / 30.0, 30.0, photons_tau_s=30 / math.log(3))
        else:
            power = 0.55 * (3.0 if scene == "too bright" else 1 / 3)
            ours = steered(seed, power)
            theirs = fixed(seed, power, ours.dose / power)
        assert theirs.dose == pytest.approx(ours.dose, rel=0.02)
        found.append(width(theirs) / width(ours))
    return np.array(found)


@pytest.mark.long
@pytest.mark.parametrize(
    ("scene", "expected"), [("too bright", 1.47), ("too dim", 0.74), ("fades", 0.96)]
)
def test_what_the_law_is_worth_for_D_at_equal_dose(scene, expected):
    """Against a power 3x off until the dose is spent, and, as light fades, against its mean.

    More than 1: the law tells more. A power 3x too bright spends the dose in a third of the time.
    One that is 3x too dim has three times as long, and what many dim frames tell of D falls only
    as the root of their light: dose is best spent slowly, if there is time. In the same time
    constant power is slightly better than constant precision. 4 seeds; they scatter by 2 to 4 %,
    so that the mean of another machine's sums stays within 10 %.
    """
    found = gains(scene, range(1, 5))
    error = found.std(ddof=1) / math.sqrt(len(found))
    LOG.info(f"{scene}: factor {found.mean():.3f} +- {error:.3f}")
    assert found.mean() == pytest.approx(expected, rel=0.1)
