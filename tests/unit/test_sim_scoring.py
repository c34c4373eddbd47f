"""Scoring against the truth: what each figure counts, and that it hides nothing."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Emccd, Ideal, Scmos
from livespt_sim import open_source
from livespt_sim.scoring import Optics, ScoringError, crlb_um2, score
from livespt_sim.truth import TRUTH_DTYPE

SHAPE, PIXEL, SIGMA = (128, 128), 0.1, 0.1
SPOT = np.dtype(
    [("frame", "i8"), ("status", "u1")]
    + [(n, "f8") for n in ("x_um", "y_um", "var_x_um2", "var_y_um2")]
)


def optics(camera=None, shape=SHAPE):
    return Optics(camera or Ideal(), shape, PIXEL, SIGMA)


def grid_truth(n_frames=40, per_side=5, photons=500.0, seed=0):
    """Molecules on a wide grid, each alone in its region."""
    rng = np.random.default_rng(seed)
    places = (np.arange(per_side) + 0.5) * SHAPE[0] * PIXEL / per_side
    xy = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    truth = np.zeros(n_frames * len(xy), TRUTH_DTYPE)
    truth["frame"] = np.repeat(np.arange(n_frames), len(xy))
    jittered = np.tile(xy, (n_frames, 1)) + rng.uniform(-0.05, 0.05, (len(truth), 2))
    truth["x_um"], truth["y_um"] = jittered.T
    truth["expected_photons"], truth["background_e"] = photons, 3.0
    truth["on_fraction"], truth["in_view"] = 1.0, True
    return truth


def perfect_spots(truth, bound, seed=1, inflate=1.0):
    rng = np.random.default_rng(seed)
    spots = np.zeros(len(truth), SPOT)
    spots["frame"] = truth["frame"]
    error = inflate * rng.standard_normal((len(truth), 2)) * np.sqrt(bound)
    spots["x_um"], spots["y_um"] = truth["x_um"] + error[:, 0], truth["y_um"] + error[:, 1]
    spots["var_x_um2"], spots["var_y_um2"] = bound.T
    return spots


@pytest.fixture(scope="module")
def scene():
    truth = grid_truth()
    return truth, perfect_spots(truth, crlb_um2(truth, optics()))


def test_errors_at_the_bound_score_one(scene):
    truth, spots = scene
    got = score(spots, truth, optics())
    tolerance = 4 / np.sqrt(2 * 2 * len(truth))  # of an s.d. from 2 n numbers
    assert got["rmse_over_crlb"] == pytest.approx(1, abs=tolerance)
    assert got["z_sd"] == pytest.approx(1, abs=tolerance)
    assert (got["recall"], got["precision"], got["outliers"]) == (1.0, 1.0, 0.0)
    assert got["n_scored"] == got["n_truth"] == len(truth)


def test_overconfident_spots_show_in_z(scene):
    truth, spots = scene
    shy = spots.copy()
    for name in ("var_x_um2", "var_y_um2"):
        shy[name] /= 4
    assert score(shy, truth, optics())["z_sd"] == pytest.approx(2, rel=0.05)


def test_missed_and_false_spots_are_counted(scene):
    truth, spots = scene
    fewer = spots[::2]
    false = spots[:100].copy()
    false["x_um"] += 0.9
    got = score(np.concatenate([fewer, false]), truth, optics())
    assert got["recall"] == pytest.approx(0.5, abs=0.001)
    assert got["precision"] == pytest.approx(len(fewer) / (len(fewer) + 100))


def test_spots_on_an_empty_frame_are_false(scene):
    truth, spots = scene
    later = spots.copy()
    later["frame"] += 10_000
    got = score(np.concatenate([spots, later]), truth, optics())
    assert (got["precision"], got["recall"]) == (0.5, 1.0)


def test_spots_that_are_not_ok_do_not_count(scene):
    truth, spots = scene
    bad = spots.copy()
    bad["status"][: len(bad) // 2] = 1
    assert score(bad, truth, optics())["recall"] == pytest.approx(0.5, abs=0.001)


def test_gross_errors_are_set_aside_but_not_hidden(scene):
    truth, spots = scene
    wild = spots.copy()
    wild["x_um"][:50] += 0.15
    got = score(wild, truth, optics())
    assert got["rmse_over_crlb"] == pytest.approx(1, abs=0.08)
    assert got["outliers"] == pytest.approx(50 / len(truth))
    assert got["rmse_over_crlb_all"] > 1.5


def test_a_systematic_offset_is_an_error(scene):
    truth, spots = scene
    moved = spots.copy()
    moved["x_um"] += 0.01
    assert score(moved, truth, optics())["rmse_over_crlb"] > 1.2


def test_crowded_partial_and_border_molecules_leave_the_error_figures():
    truth = grid_truth(n_frames=1)
    near = truth[:1].copy()
    near["x_um"] += 0.5
    partial, border = truth[1], truth[2]
    partial["on_fraction"], border["x_um"] = 0.7, 0.2
    both = np.concatenate([truth, near])
    spots = perfect_spots(both, np.full((len(both), 2), 1e-4))
    got = score(spots, both, optics())
    assert got["n_scored"] == len(truth) - 3
    assert got["n_truth"] == len(truth)  # all but the one at the border
    assert got["n_isolated"] == got["n_truth"] - 2


def test_two_spots_never_share_a_molecule():
    truth = grid_truth(n_frames=1)
    spots = perfect_spots(np.concatenate([truth, truth]), np.full((2 * len(truth), 2), 1e-4))
    got = score(spots, truth, optics())
    assert (got["n_matched"], got["precision"]) == (len(truth), 0.5)


def test_nothing_found_gives_none_not_nan(scene):
    truth, spots = scene
    got = score(spots[:0], truth, optics())
    assert got["recall"] == 0.0
    assert all(got[k] is None for k in ("precision", "rmse_um", "rmse_over_crlb", "z_sd"))
    assert score(spots[:0], truth[:0], optics())["recall"] is None


def test_a_missing_column_is_named(scene):
    truth, spots = scene
    with pytest.raises(ScoringError, match="no column 'status'"):
        score(spots[["frame", "x_um", "y_um", "var_x_um2", "var_y_um2"]], truth, optics())


def test_the_source_scores_the_frames_that_were_analysed():
    source = open_source(
        {"height_px": 64, "width_px": 64, "molecules": 4.0, "n_frames": 30, "paced": False}
    )
    assert sum(1 for _ in source.frames()) == 31
    table = source.truth().table
    spots = perfect_spots(table, np.full((len(table), 2), 1e-4))
    half = spots[spots["frame"] < 15]
    assert source.score_localization(half)["recall"] < 0.7
    assert source.score_localization(half, frames=np.arange(15))["recall"] == 1.0


def test_the_bound_is_the_papers_where_that_holds():
    # Rieger & Stallinga's closed form (SCIENCE 1), an approximation good to a few per cent
    for photons, rule, camera in ((300.0, 1.0, Ideal()), (2000.0, 2.0, Emccd(20.0, 2.0, 2.0))):
        truth = grid_truth(n_frames=1, photons=photons)
        variance = SIGMA**2 + PIXEL**2 / 12
        t = 2 * np.pi * variance * 3.0 / (photons * PIXEL**2)
        paper = rule * variance / photons * (1 + 4 * t + np.sqrt(2 * t / (1 + 4 * t)))
        got = crlb_um2(truth, optics(camera)).mean()
        assert np.sqrt(got / paper) == pytest.approx(1, abs=0.05)


def test_motion_and_read_noise_widen_the_bound():
    truth = grid_truth(n_frames=1)
    still = crlb_um2(truth, optics())
    assert np.all(crlb_um2(truth, optics(Scmos(2.0, 100.0, 3.0))) > still)
    truth["path_var_x_um2"] = 0.005
    moved = crlb_um2(truth, optics())
    assert np.all(moved[:, 0] > 1.3 * still[:, 0])
    assert moved[:, 1] == pytest.approx(still[:, 1], rel=0.25)  # only through the peak's height


def test_a_camera_with_maps_gives_each_region_its_own_bound():
    truth = grid_truth(n_frames=1)
    var = np.full(SHAPE, 1.0)
    uniform = crlb_um2(truth, optics(Scmos(np.full(SHAPE, 2.0), np.full(SHAPE, 100.0), var)))
    assert uniform == pytest.approx(crlb_um2(truth, optics(Scmos(2.0, 100.0, 1.0))), rel=1e-3)
    noisy = var.copy()
    noisy[:, :64] = 30.0
    mapped = crlb_um2(truth, optics(Scmos(np.full(SHAPE, 2.0), np.full(SHAPE, 100.0), noisy)))
    left = truth["x_um"] < 5.0
    assert np.all(mapped[left] > 1.2 * uniform[left])
    right = truth["x_um"] > 7.5
    assert mapped[right] == pytest.approx(uniform[right])
