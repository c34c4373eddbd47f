"""Light learned from pixels, and which frames a track's pixel filter is fed."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Ideal, Scmos
from livespt.infer import Follower, PixelFilter, PixelFilterError
from livespt.infer.light import Light
from livespt.psf import spot_image
from livespt.types import (
    SPOT_DTYPE,
    Estimates,
    Frame,
    Links,
    Spots,
    track_dtype,
)

SIDE, PHOTONS, BG = 9, 40.0, 2.0
SHAPE = (40, 60)
NOBODY = np.zeros(0, np.int64)


def film_at(rng, n=30, D_um2_s=0.01):
    film = PixelFilter(Ideal(), 0.1, 0.1, PHOTONS, BG, D_um2_s=D_um2_s)
    for t in range(n):
        film.step(region(rng, PHOTONS), (10, 20), 0.02 * t, 0.005)
    return film


def region(rng, photons, at=(4.2, 3.7)):
    return rng.poisson(BG + spot_image(*at, photons, 1.0, (SIDE, SIDE))).astype(np.uint16)


def test_light_from_regions_has_no_bias_where_bright_fits_have():
    """400 frames off by .4 px each way, that is told: N within 4 s.e. (s.d. of one frame 12)."""
    rng, light = np.random.default_rng(1), Light()
    light.see_fit(1.4 * PHOTONS, BG)
    found = []
    for _ in range(400):
        at = 4.0 + rng.normal(0, 0.4, 2)
        known = np.full(2, 4.0), np.full(2, 1.0 + 0.16)
        light.see_region(region(rng, PHOTONS, at).astype(float), np.zeros((1, 1)), known, 1.0)
        found.append(light.now)
    assert found[0] == (1.4 * PHOTONS, BG)
    photons, bg = np.mean(found[50:], axis=0)
    assert photons == pytest.approx(PHOTONS, abs=2.8)
    assert bg == pytest.approx(BG, abs=0.06)


def test_odds_are_the_mean_of_the_likelihood_ratio_over_the_place_foretold():
    """Against a plain sum over a grid five times as fine; half pixels cost up to .3."""
    rng = np.random.default_rng(2)
    film = film_at(rng)
    for photons in (PHOTONS, 0.0, 15.0):
        adu = region(rng, photons)
        mean, var = film.foretell(0.7, 0.005)
        grid = np.arange(-0.4, 8.41, 0.1)
        weights, ratios = [], []
        for y in grid:
            for x in grid:
                off = np.array([x + 10, y + 20]) - 10 * mean
                off = off**2 / (100 * np.maximum(var, 4e-4))
                light = spot_image(x, y, PHOTONS, 1.0, (SIDE, SIDE))
                weights.append(np.exp(-0.5 * off.sum()))
                ratios.append(np.exp((adu * np.log1p(light / BG) - light).sum()))
        plain = np.log(np.dot(weights, ratios) / np.sum(weights))
        assert film.ln_odds(adu, (10, 20), 0.7, 0.005) == pytest.approx(plain, abs=0.5)


def test_a_film_that_is_told_its_light_is_one_that_was_made_with_it():
    films = []
    for first in (PHOTONS, 55.0):
        rng = np.random.default_rng(3)
        film = PixelFilter(Ideal(), 0.1, 0.1, first, BG)
        film.set_light(PHOTONS, BG)
        films.append([film.step(region(rng, PHOTONS), (0, 0), 0.02 * t, 0.005) for t in range(12)])
    for a, b in zip(*films, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    with pytest.raises(PixelFilterError, match="light: 0"):
        film.set_light(0.0, 1.0)


class Scene:
    """Molecules that stand still; each frame says which shine and which have a fit."""

    def __init__(self, camera=None, method="ukf"):
        self.rng = np.random.default_rng(4)
        self.follower = Follower(camera or Ideal(), 0.1, 0.1, SHAPE, method=method)
        self.n = 0

    def step(self, shine, fitted, ended=(), excitation=1.0):
        """Take a frame with molecules at `shine`, (id, x, y) in pixels, and fits of `fitted`."""
        rate = np.full(SHAPE, BG)
        for _, x, y in shine:
            rate += spot_image(x, y, 60.0, 1.0, SHAPE)
        adu = self.rng.poisson(excitation * rate).astype(np.uint16)
        table = np.zeros(len(fitted), SPOT_DTYPE)
        rows = np.zeros(len(fitted), track_dtype(2))
        for i, (name, x, y) in enumerate(fitted):
            for part in (table[i : i + 1], rows[i : i + 1]):
                part["x_um"], part["y_um"] = 0.1 * x, 0.1 * y
                part["var_x_um2"] = part["var_y_um2"] = 4e-4
            table["photons"][i], table["bg_photons"][i] = 60.0 * excitation, BG * excitation
            rows["track_id"][i], rows["spot"][i], rows["D_track_um2_s"][i] = name, i, 1e-3
            rows["p_state"][i] = 0.3, 0.7
        frame = Frame(self.n, 0.02 * self.n, adu, 0.005, excitation)
        spots = Spots(self.n, frame.t_s, 0.005, excitation, table)
        links = Links(self.n, rows["track_id"], np.ones(len(rows)), np.array(ended, np.int64))
        self.n += 1
        return self.follower.step(frame, spots, links, Estimates(self.n, 0.0, rows, None)).table


ONE = (7, 20.3, 15.6)


@pytest.mark.parametrize("camera", [Ideal(), Scmos(np.ones(SHAPE), 0.0, np.full(SHAPE, 0.3))])
def test_a_molecule_without_a_fit_is_seen_while_it_shines(camera):
    scene = Scene(camera)
    for _ in range(12):
        assert scene.step([ONE], [ONE])["spot"].tolist() == [0]
    for _ in range(6):
        (row,) = scene.step([ONE], [])
        assert (row["track_id"], row["spot"], row["p_state"].tolist()) == (7, -1, [0.3, 0.7])
        assert np.hypot(10 * row["x_um"] - ONE[1], 10 * row["y_um"] - ONE[2]) < 0.6
    dark = [len(scene.step([], [])) for _ in range(8)]
    assert sum(dark[1:]) <= 1  # evidence for light where there is none is rare
    assert len(scene.step([ONE], [])) + len(scene.step([ONE], [])) >= 1
    scene.step([ONE], [], ended=(7,))
    assert scene.follower.n_followed == 0
    assert len(scene.step([ONE], [])) == 0


def test_a_molecule_is_not_followed_where_anothers_light_reaches_in_or_the_frame_ends():
    scene = Scene()
    near = (8, ONE[1] + 5, ONE[2])
    edge = (9, 2.0, 30.0)
    for _ in range(12):
        rows = scene.step([ONE, near, edge], [ONE, near, edge])
        assert (rows["var_x_um2"] == 4e-4).all()  # as the tracks' filter left them
    assert scene.follower.n_followed == 0


def test_a_filter_begins_anew_where_the_excitation_changes():
    scene = Scene()
    for _ in range(12):
        scene.step([ONE], [ONE])
    film = scene.follower._tracks[7].film
    rows = [scene.step([ONE], [ONE], excitation=2.0) for _ in range(8)]
    assert scene.follower._tracks[7].film is not film
    assert rows[-1]["var_x_um2"][0] < 4e-4
    assert np.hypot(10 * rows[-1]["x_um"] - ONE[1], 10 * rows[-1]["y_um"] - ONE[2]) < 0.6


def test_the_papers_step_keeps_the_tracks_own_D():
    scene = Scene(method="unscented")
    for _ in range(12):
        rows = scene.step([ONE], [ONE])
    assert scene.follower.n_followed == 1
    assert rows["D_track_um2_s"][0] == 1e-3
    assert rows["var_x_um2"][0] < 4e-4
