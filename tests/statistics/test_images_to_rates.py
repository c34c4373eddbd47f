"""From images to switching rates where molecules lie so thick that many share a spot.

One thousand molecules in 40 x 40 um, D .05 and 1 um2/s, one switch in 50 frames either way, 20 ms
of continuous exposure, 300 photons on a background of 1, blinking and bleaching: localized, linked
(each identity open to revision for two frames), inferred and refitted as `livespt localize` and
`livespt link` do. In each frame 13 to 17 % of the molecules have no spot of their own.

Measured (seed 7, estimate over truth): pairs split p12 1.02, p21 1.25; not split 1.05, 1.32. With
`localize.crowding = "ignore"` and pairs split 1.43, 1.55.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from livespt.linking import LinkOptions, link_table
from livespt.localize import Localizer
from livespt.spot_tables import SpotTable
from livespt.types import Event
from livespt_sim.source import open_source

pytestmark = pytest.mark.long

SIDE_PX, PIXEL_UM, SIGMA_UM, INTERVAL_S, N_FRAMES = 400, 0.1, 0.1, 0.02, 150
FIELD_UM = (SIDE_PX * PIXEL_UM,) * 2
D_UM2_S, RATE_PER_S = (0.05, 1.0), 1.0
P_SWITCH = (1 - np.exp(-2 * RATE_PER_S * INTERVAL_S)) / 2
SCENE = {
    "seed": 7,
    "height_px": SIDE_PX,
    "width_px": SIDE_PX,
    "pixel_um": PIXEL_UM,
    "sigma_um": SIGMA_UM,
    "interval_s": INTERVAL_S,
    "exposure_s": INTERVAL_S,
    "molecules": 1000.0,
    "D_um2_s": list(D_UM2_S),
    "rates_per_s": [[0.0, RATE_PER_S], [RATE_PER_S, 0.0]],
    "photons": 300.0,
    "background_e": 1.0,
    "brightness_cv": 0.1,
    "off_per_s": 0.5,
    "on_per_s": 25.0,
    "bleach_per_s": 0.25,
    "n_frames": N_FRAMES,
    "paced": False,
}


@pytest.fixture(scope="module")
def movie():
    """The camera and its frames."""
    source = open_source(SCENE)
    return source.camera, [item for item in source.frames() if not isinstance(item, Event)]


def final_answer(movie, **options):
    """Localize and link the movie; return the final answer."""
    camera, frames = movie
    find = Localizer(camera, PIXEL_UM, SIGMA_UM, (SIDE_PX, SIDE_PX), **options)
    spots = [find(frame).table for frame in frames]
    number = np.repeat(np.arange(len(spots)), [len(table) for table in spots])
    columns = pa.table({"frame": number})
    table = SpotTable(Path("movie"), "livespt", columns, number, None, np.concatenate(spots), None)
    linked = link_table(table, LinkOptions(INTERVAL_S, INTERVAL_S, 2, FIELD_UM))
    return linked.answer["final"]


def over_truth(answer):
    """Return the estimates of p12 and p21 and of both D, over the truth."""
    p = answer["p_switch"]
    return np.array([p[0][1], p[1][0]]) / P_SWITCH, np.array(answer["D_um2_s"]) / D_UM2_S


@pytest.mark.parametrize("overlap, most_p21", [("pair", 1.3), ("single", 1.4)])
def test_rates_of_a_crowd_come_out_of_its_images(movie, overlap, most_p21):
    """The aim for p12 is 15 %; what is left of p21 is links that went to the neighbour.

    On two other seeds and 100 frames p12 was .98 and 1.04, p21 1.12 and 1.22 (pairs split): about
    5 % of scatter.
    """
    (p12, p21), D = over_truth(final_answer(movie, overlap=overlap, crowding="widen"))
    print(f"{overlap}: p12 {p12:.3f} p21 {p21:.3f} D {D} of the truth")  # noqa: T201
    assert 0.85 < p12 < 1.15
    assert 0.85 < p21 < most_p21
    assert np.abs(D - 1).max() < 0.08


def test_without_widening_the_same_images_mislead(movie):
    """So the scene is hard: what the test above asks for is not to be had for nothing."""
    (p12, p21), _ = over_truth(final_answer(movie, overlap="pair", crowding="ignore"))
    print(f"ignored: p12 {p12:.3f} p21 {p21:.3f} of the truth")  # noqa: T201
    assert min(p12, p21) > 1.15
