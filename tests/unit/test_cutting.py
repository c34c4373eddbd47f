"""Regions are cut around tracks: which, and from where."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Ideal
from livespt.refit import Molecules, RefitError, make_tracks, refit
from livespt.refit.cutting import Cutter, Scope, molecules_of, plan_cuts
from livespt.refit.each import average

PIXEL_UM, N = 0.1, 12
SEEN = np.dtype([("frame", "i8"), ("x_um", "f8"), ("y_um", "f8")])


def scope(**change):
    given = {
        "camera": Ideal(), "shape": (40, 60), "pixel_um": PIXEL_UM, "sigma_um": 0.1, "side": 9,
        "least_frames": 4, "even": False,
    }  # fmt: skip
    return Scope(**(given | change))


def table(places_px, frames=None):
    """Return tracks that stand nearly still at some places, and the spots they are made of."""
    frames = np.arange(N) if frames is None else np.asarray(frames)
    track = np.repeat(np.arange(len(places_px)), frames.size)
    place = np.repeat(np.asarray(places_px, float), frames.size, axis=0)
    place += 0.01 * np.arange(track.size)[:, None] % 0.3
    frame = np.tile(frames, len(places_px))
    tracks = make_tracks(track, frame, PIXEL_UM * place, interval_s=0.02, exposure_s=0.01)
    seen = np.zeros(track.size, SEEN)
    seen["frame"], seen["x_um"], seen["y_um"] = frame, *(PIXEL_UM * place.T)
    return tracks, seen


def test_a_regions_middle_pixel_has_the_position():
    tracks, seen = table([[20.0, 12.0], [45.0, 30.0]])
    plan = plan_cuts(tracks, seen, scope())
    middle = plan.corner_px + 4
    np.testing.assert_array_less(np.abs(tracks.x_um / PIXEL_UM - middle[:, 0]), 0.5 + 1e-9)
    np.testing.assert_array_less(np.abs(tracks.y_um / PIXEL_UM - middle[:, 1]), 0.5 + 1e-9)


def test_the_pixels_are_those_of_the_frame():
    tracks, seen = table([[20.0, 12.0]])
    plan, how = plan_cuts(tracks, seen, scope()), scope()
    cutter = Cutter(plan, how.side)
    rows, columns = np.mgrid[:40, :60]
    for frame in range(N):
        cutter.take(frame, (1000 * frame + 60 * rows + columns).astype(np.uint16))
    regions = molecules_of(plan, cutter, how).regions[0]
    x, y = regions.corner_px[7]
    assert regions.adu[7, 2, 3] == 7000 + 60 * (y + 2) + x + 3
    assert regions.adu.shape == (N, 9, 9)
    assert regions.exposure_s == 0.01


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([[20.0, 12.0], [3.0, 20.0]], "positions at the border of the frame"),
        ([[20.0, 12.0], [20.0, 37.0]], "positions at the border of the frame"),
        ([[10.0, 12.0], [40.0, 20.0], [45.9, 20.0]], "positions with another spot near"),
    ],
)
def test_what_cannot_be_cut_is_counted(places, reason):
    """One track stays; a spot 6 px away puts light into a region of 9 at a width of 1."""
    plan = plan_cuts(*table(places), scope())
    assert plan.tracks.n_tracks == 1
    assert plan.left_out[reason] == (len(places) - 1) * N


def test_spots_of_other_frames_are_no_neighbours():
    tracks, seen = table([[20.0, 12.0]])
    more = np.array([(N + 3, 2.0, 1.2)], SEEN)
    plan = plan_cuts(tracks, np.concatenate([seen, more]), scope())
    assert plan.left_out["positions with another spot near"] == 0


def test_the_longest_even_stretch_is_kept_where_it_must_be_even():
    frames = [0, 1, 2, 5, 6, 7, 8, 9, 12, 13, 14]
    tracks, seen = table([[20.0, 12.0], [45.0, 30.0]], frames)
    assert plan_cuts(tracks, seen, scope()).tracks.frame.size == 22
    plan = plan_cuts(tracks, seen, scope(even=True))
    assert plan.tracks.frame.tolist() == [5, 6, 7, 8, 9] * 2
    assert plan.left_out["positions off a track's longest even stretch"] == 12


def test_nothing_to_cut_is_refused_with_its_reasons():
    with pytest.raises(RefitError, match="12 positions at the border of the frame"):
        plan_cuts(*table([[3.0, 20.0]]), scope())


def test_frames_that_were_not_read_again_are_missed():
    tracks, seen = table([[20.0, 12.0]])
    plan = plan_cuts(tracks, seen, scope())
    cutter = Cutter(plan, 9)
    cutter.take(0, np.zeros((40, 60), np.uint16))
    with pytest.raises(RefitError, match="11 frames were not there"):
        molecules_of(plan, cutter, scope())


def test_molecules_that_a_method_refuses_are_counted(rng):
    """A dark region cannot be fitted frame by frame; the other molecule's answer stands."""
    from livespt.psf import spot_image

    rate = 8.0 + spot_image(4.0, 4.0, 600.0, 1.0, (9, 9))
    tracks, seen = table([[20.0, 12.0], [45.0, 30.0]])
    plan = plan_cuts(tracks, seen, scope())
    cutter = Cutter(plan, 9)
    for frame in range(N):
        adu = np.zeros((40, 60), np.uint16)
        adu[8:17, 16:25] = rng.poisson(rate)
        cutter.take(frame, adu)
    molecules = molecules_of(plan, cutter, scope())
    assert isinstance(molecules, Molecules)
    found = refit(molecules, "gf-msd")
    assert found.left_out["molecules that the method refused"] == 1
    assert found.status == "too few data"
    assert found.parameter("D_um2_s").sd is None


def test_an_average_has_the_spread_of_what_it_is_of(rng):
    """Even weights: the textbook's standard error, and Student's interval."""
    values = rng.normal(3.0, 0.5, 9)
    found = average("D_um2_s", values, np.ones(9), "um2/s")
    assert found.value == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1) / 3)
    assert found.high - found.value == pytest.approx(2.306 * found.sd, rel=1e-3)
    assert average("D_um2_s", values[:1], np.ones(1), "um2/s").sd is None
