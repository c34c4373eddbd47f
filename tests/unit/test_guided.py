"""Joint mode: what a guided fit hands on, and what the linker makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from livespt.camera import Emccd, Ideal, Scmos
from livespt.infer import OnlineFilter
from livespt.journal import streams
from livespt.link import Linker
from livespt.localize import Guide, LocalizeError
from livespt.localize.guided import LOOSE, PhotonMemory
from livespt.types import SPOT_DTYPE, FitStatus, Frame, Links, Predictions, Spots

PIXEL_UM, SIGMA_UM, SHAPE = 0.1, 0.1, (32, 40)
SCMOS = Scmos(2.2, 100.0, 1.2)


def a_frame(rng, camera, photons=(), places=(), background=2.0, sigma_px=1.0):
    """Draw a frame with spots at `places` (x, y) in pixels."""

    def share(centre, n):
        edges = np.arange(n + 1) - 0.5
        return np.diff(erf((edges - centre) / (np.sqrt(2) * sigma_px))) / 2

    rate = np.full(SHAPE, float(background))
    for n, (x, y) in zip(photons, places, strict=True):
        rate += n * np.outer(share(y, SHAPE[0]), share(x, SHAPE[1]))
    return Frame(0, 0.0, camera.sample(rate, rng), 0.01)


def expecting(places, sd_px=1.0, p_on=0.9):
    """Predict one mode at each place (x, y) in pixels."""
    n = len(places)
    modes = np.zeros((n, 1, 6))
    modes[:, 0, 0] = 1.0
    modes[:, 0, 1:3] = np.asarray(places) * PIXEL_UM
    modes[:, 0, 3] = modes[:, 0, 5] = (sd_px * PIXEL_UM) ** 2
    return Predictions(np.arange(n), np.full(n, p_on), modes, np.zeros(n))


def nothing(frame=0, t_s=0.0):
    return Spots(frame, t_s, 0.01, 1.0, np.zeros(0, SPOT_DTYPE))


def found_blind(x_um, y_um, frame=0, t_s=0.0, photons=100.0, sd_um=0.02, **columns):
    table = np.zeros(np.size(x_um), SPOT_DTYPE)
    table["x_um"], table["y_um"] = x_um, y_um
    table["var_x_um2"] = table["var_y_um2"] = sd_um**2
    table["photons"], table["sigma_um"] = photons, SIGMA_UM
    for name, value in columns.items():
        table[name] = value
    return Spots(frame, t_s, 0.01, 1.0, table)


def a_guide(camera=SCMOS, photons=80.0, n_tracks=400, **options):
    """Make a guide that knows how bright the molecules are."""
    guide = Guide(camera, PIXEL_UM, SIGMA_UM, SHAPE, **options)
    ids = np.arange(n_tracks)
    seen = found_blind(np.zeros(n_tracks), np.zeros(n_tracks), photons=photons)
    guide.learn(seen, Links(0, ids, np.ones(n_tracks), np.zeros(0, np.int64)))
    return guide


MAPPED = Scmos(np.full(SHAPE, 2.2), np.linspace(90, 110, 1280).reshape(SHAPE), np.ones(SHAPE))


@pytest.mark.parametrize("camera", [Ideal(), SCMOS, MAPPED, Emccd(50.0, 2.0, 10.0, 200.0)])
def test_a_dim_molecule_is_found_where_it_is_expected(rng, camera):
    """80 photons on 2: some 5 s.d. of the background; the error is within 4 of its own s.d."""
    guide = a_guide(camera)
    frame = a_frame(rng, camera, [80.0], [(20.3, 15.8)])
    spots = guide(frame, nothing(), expecting([(20.0, 16.5)]))
    (row,) = spots.table
    assert row["status"] == FitStatus.OK
    assert row["guided"] == 1
    error = np.array([row["x_um"] - 2.03, row["y_um"] - 1.58])
    assert np.all(np.abs(error) < 4 * np.sqrt([row["var_x_um2"], row["var_y_um2"]]))
    assert 40 < row["photons"] < 120
    assert 0 < row["false_um2"] < 1.0


def test_the_prior_is_not_counted_twice(rng):
    """Prior times the likelihood handed on is the posterior, whichever prior led to the fit.

    Three predictions of one molecule, 1.5 s.d. apart, must hand on the same likelihood: the
    prior is in none. Differences come from where the Gaussian was laid: a tenth of its s.d.
    """
    frame = a_frame(rng, SCMOS, [300.0], [(20.2, 16.1)])
    rows = []
    for x, sd_px in ((20.0, 0.4), (20.6, 0.4), (20.2, 3.0)):
        spots = a_guide(photons=300.0)(frame, nothing(), expecting([(x, 16.0)], sd_px))
        rows.append(spots.table[0])
    sd = np.sqrt(rows[0]["var_x_um2"])
    np.testing.assert_allclose([row["x_um"] for row in rows], rows[0]["x_um"], atol=0.1 * sd)
    np.testing.assert_allclose([row["var_x_um2"] for row in rows], rows[0]["var_x_um2"], rtol=0.05)


def test_the_filters_update_with_the_likelihood_is_the_fits_posterior(rng):
    """With one Gaussian as prior: P'^-1 = P^-1 + J at the mean of the fit's own optimum."""
    guide = a_guide()
    frame = a_frame(rng, SCMOS, [80.0], [(20.3, 15.8)])
    asked = expecting([(20.0, 16.0)], sd_px=0.2)
    answer = guide._look(frame, nothing(), asked, np.array([0]))
    vxx, vxy, vyy = answer.site[0, 2:]
    J = np.linalg.inv([[vxx, vxy], [vxy, vyy]])
    P_inverse = np.eye(2) / (LOOSE * 0.2**2)
    mean = np.linalg.solve(P_inverse + J, P_inverse @ [20.0, 16.0] + J @ answer.site[0, :2])
    sd = np.sqrt(np.diag(np.linalg.inv(P_inverse + J)))
    np.testing.assert_allclose((answer.theta[0, :2] - mean) / sd, 0, atol=0.02)


@pytest.mark.parametrize("alarm", [0.02, 0.1])
@pytest.mark.parametrize("sd_px", [0.3, 1.0])
def test_empty_places_give_false_spots_no_more_often_than_stated(alarm, sd_px):
    """40 photons on 3, where the test is least sure; 2,400 places.

    The stated rate holds within a factor of 1.5; the s.d. of the count adds 15 % at most.
    """
    rng = np.random.default_rng(7)
    guide = a_guide(photons=40.0, alarm=alarm)
    places = [(x, y) for x in (6, 19, 32) for y in (8, 23)]  # farther apart than they look
    n_false, n_looks = 0, 400
    for _ in range(n_looks):
        frame = a_frame(rng, SCMOS, background=3.0)
        n_false += len(guide(frame, nothing(), expecting(places, sd_px)).table)
    rate = n_false / (n_looks * len(places))
    print(f"stated {alarm}, found {rate:.4f}")  # noqa: T201
    assert 0.25 * alarm < rate < 1.6 * alarm


def test_bright_molecules_have_hardly_any_false_spots():
    rng = np.random.default_rng(8)
    guide, places = a_guide(photons=300.0), [(x, y) for x in (6, 19, 32) for y in (8, 23)]
    n_false = sum(
        len(guide(a_frame(rng, SCMOS), nothing(), expecting(places)).table) for _ in range(200)
    )
    assert n_false <= 6  # .005 of 1,200


def test_a_prediction_that_a_blind_spot_explains_is_not_looked_for(rng):
    frame = a_frame(rng, SCMOS, [300.0], [(20.0, 16.0)])
    blind = found_blind([2.0], [1.6], photons=300.0)
    assert a_guide()(frame, blind, expecting([(20.2, 16.1)])) is blind


def test_light_of_a_blind_spot_is_not_found_again(rng):
    """The spot belongs to the nearer prediction; the other, 3 px away, finds nothing more."""
    frame = a_frame(rng, SCMOS, [300.0], [(20.0, 16.0)])
    blind = found_blind([2.0], [1.6], photons=300.0)
    spots = a_guide(photons=300.0)(frame, blind, expecting([(20.2, 16.1), (22.5, 17.5)]))
    assert len(spots.table) == 1


def test_what_a_blind_fit_took_light_from_is_not_taken(rng):
    """Two molecules 3 px apart, one blind spot between them: what is left is no position."""
    frame = a_frame(rng, SCMOS, [300.0, 300.0], [(18.5, 16.0), (21.5, 16.0)])
    blind = found_blind([1.9], [1.6], photons=400.0)
    spots = a_guide(photons=300.0)(frame, blind, expecting([(18.6, 16.0), (21.5, 16.0)]))
    assert len(spots.table) == 1


def test_two_predictions_of_one_light_give_one_spot(rng):
    frame = a_frame(rng, SCMOS, [150.0], [(20.0, 16.0)])
    asked = expecting([(19.5, 16.0), (20.8, 16.0)])
    assert len(a_guide(photons=150.0)(frame, nothing(), asked).table) == 1


def test_two_dim_neighbours_are_both_found(rng):
    places = [(17.0, 16.0), (22.0, 16.0)]
    frame = a_frame(rng, SCMOS, [200.0, 200.0], places)
    table = a_guide(photons=200.0)(frame, nothing(), expecting(places)).table
    np.testing.assert_allclose(np.sort(table["x_um"]), [1.7, 2.2], atol=0.05)


@pytest.mark.parametrize("place", [(-3.0, 10.0), (20.0, 60.0), (1e6, 1e6)])
def test_what_left_the_view_is_not_looked_for(rng, place):
    blind = nothing()
    assert a_guide()(a_frame(rng, SCMOS), blind, expecting([place])) is blind


def test_a_saturated_place_is_left_alone(rng):
    frame = a_frame(rng, SCMOS, [300.0], [(20.0, 16.0)])
    adu = frame.adu.copy()
    adu[15, 21] = 65535
    assert not len(a_guide()(frame._replace(adu=adu), nothing(), expecting([(20.0, 16.0)])).table)


def test_a_dead_frame_gives_nothing(rng):
    frame = a_frame(rng, SCMOS)._replace(adu=np.full(SHAPE, 100, np.uint16))
    assert not len(a_guide()(frame, nothing(), expecting([(20.0, 16.0)])).table)


def test_corners_are_looked_at_in_regions_shifted_inside(rng):
    places = [(0.5, 0.7), (39.0, 31.0)]
    frame = a_frame(rng, SCMOS, [200.0, 200.0], places)
    table = a_guide(photons=200.0)(frame, nothing(), expecting(places)).table
    assert len(table) == 2


@pytest.mark.parametrize("options", [{"alarm": 0.0}, {"alarm": 1.0}, {"roi_px": 8}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(LocalizeError):
        Guide(SCMOS, PIXEL_UM, SIGMA_UM, SHAPE, **options)


def test_frames_smaller_than_a_region_are_refused():
    with pytest.raises(LocalizeError, match="roi_px: 9"):
        Guide(SCMOS, PIXEL_UM, SIGMA_UM, (8, 40))


def test_photons_are_remembered_per_track_and_scaled_with_the_excitation():
    memory = PhotonMemory()
    seen = found_blind([0.0, 1.0], [0.0, 1.0], photons=[50.0, 150.0])
    for _ in range(60):
        memory.learn(seen, Links(0, np.array([3, 4]), np.ones(2), np.zeros(0, np.int64)))
    low, high = memory.expected(np.array([3, 4]))
    assert 50 < low < 60  # a tenth of the way to the common 100
    assert 140 < high < 150
    assert memory.expected(np.array([99]))[0] == pytest.approx(100)
    halved = seen._replace(excitation=0.5)
    memory.learn(halved, Links(1, np.array([5, -1]), np.ones(2), np.array([3])))
    assert memory.expected(np.array([5]))[0] > 100 * 0.99  # (100 + 2 common) / 3, common near 100
    assert memory.expected(np.array([3]))[0] != pytest.approx(low)  # forgotten with its track


# --- the linker ------------------------------------------------------------------------------


def a_track(linker, n=4):
    for frame in range(n):
        linker.step(found_blind([1.0], [1.0], frame, 0.02 * frame))
    return n, 0.02 * n


def test_a_prediction_changes_nothing():
    one, other = Linker(0.02), Linker(0.02)
    frame, t_s = a_track(one)
    a_track(other)
    before = one.predict(frame, t_s, 0.01)
    again = one.predict(frame, t_s, 0.01)
    for a, b in zip(before, again, strict=True):
        np.testing.assert_array_equal(a, b)
    spots = found_blind([1.02, 5.0], [0.98, 5.0], frame, t_s)
    for a, b in zip(one.step(spots)[1:], other.step(spots)[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_prediction_lies_where_the_track_was_and_widens_with_time():
    linker = Linker(0.02)
    frame, t_s = a_track(linker)
    soon, late = linker.predict(frame, t_s, 0.01), linker.predict(frame + 5, t_s + 0.1, 0.01)
    np.testing.assert_allclose(soon.modes[0, :, 1:3], 1.0, atol=0.02)
    assert np.all(late.modes[0, :, 3] > soon.modes[0, :, 3])
    assert soon.p_on[0] > 0.9 > late.p_on[0]
    assert Linker(0.02).predict(0, 0.0, 0.01).track_id.size == 0


def test_a_guided_row_continues_its_track_and_never_starts_one():
    linker = Linker(0.02)
    frame, t_s = a_track(linker)
    near = found_blind([1.03, 4.0], [1.01, 4.0], frame, t_s, guided=1, false_um2=0.5)
    links = linker.step(near)
    assert links.track_id.tolist() == [0, -1]
    assert linker.n_live == 1
    assert 0.9 < links.p_link[0] < 1.0


def test_guided_rows_leave_what_was_learned_alone():
    """Density of new spots and switching: the same with and without rows that link to nothing."""
    with_rows, without = Linker(0.02), Linker(0.02)
    for frame in range(40):
        x, y = [1.0, 3.0], [1.0, 3.0]
        blind = found_blind(x, y, frame, 0.02 * frame)
        extra = found_blind([2.0], [2.0], guided=1, false_um2=1e4)
        table = np.concatenate([blind.table, extra.table])
        with_rows.step(blind._replace(table=table))
        without.step(blind)
    for a, b in zip(with_rows.motion, without.motion, strict=True):
        np.testing.assert_array_equal(a, b)


def test_false_guided_rows_do_not_keep_a_dead_track_alive():
    """Weak evidence in each of many frames: odds of 2, a third of which are false alarms."""
    linker = Linker(0.02)
    frame, t_s = a_track(linker)
    ended = None
    rng = np.random.default_rng(1)
    for more in range(60):
        at = frame + more, t_s + 0.02 * more
        by_chance = rng.random() < 0.02
        spots = nothing(*at)
        if by_chance:
            spots = found_blind([1.0], [1.0], *at, guided=1, false_um2=20.0)
        if len(linker.step(spots).ended):
            ended = more
            break
    assert ended is not None
    assert ended < 20


def test_a_filter_takes_guided_rows_as_any_other():
    online = OnlineFilter(1, 0.02)
    for frame in range(5):
        spots = found_blind([1.0], [1.0], frame, 0.02 * frame, guided=frame % 2, false_um2=0.5)
        links = Links(frame, np.array([0]), np.ones(1), np.zeros(0, np.int64))
        estimates = online.step(spots, links)
    assert estimates.table["n_spots"][0] == 5


def test_runs_of_the_first_journal_are_read_as_found_blind():
    """Version 1 had neither column; an old run folder must still replay."""
    old = [name for name in streams.SPOTS.names or () if name not in ("guided", "false_um2")]
    rows = np.ones(3, streams.SPOTS)[old]
    read = streams.completed("spots", rows)
    assert read.dtype == streams.SPOTS
    assert not read["guided"].any()
    assert not read["false_um2"].any()
    np.testing.assert_array_equal(read["photons"], 1.0)
