"""Calibration finds the camera that the frames were drawn from, and its errors are right.

64 x 64 pixels: a standard deviation over 4096 pixels is known to 1.1 %, a mean to 0.016 of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livespt.calibration import Options, calibrate
from livespt.calibration.register import fit_dark
from livespt.calibration.series import read_series
from livespt.calibration.transfer import K_MULTIPLIED, K_POISSON, fit_lines
from livespt.camera import Camera, Emccd, Scmos
from livespt.camera_file import (
    MASKED_E2,
    MASKED_GAIN,
    camera_of,
    read_camera_file,
    write_camera_file,
)
from livespt.localize import Localizer, fit_rois
from livespt.psf import spot_image
from livespt.types import Frame

SHAPE = (64, 64)
LEVELS = (20.0, 80.0, 200.0)
ROUNDING = 1 / 12  # of counts to integers, ADU^2: part of what a dark series shows


def draw(
    path: Path, camera: Camera, rate_e: float, n: int, seed: int, lamp: np.ndarray | None = None
) -> Path:
    rng = np.random.default_rng(seed)
    light = np.ones(n) if lamp is None else lamp
    np.save(path, np.stack([camera.sample(np.full(SHAPE, rate_e * a), rng) for a in light]))
    return path


def chip(seed: int = 5, spread: float = 0.03) -> Scmos:
    rng = np.random.default_rng(seed)
    var = rng.lognormal(np.log(1.3), 0.4, SHAPE)
    var[rng.random(SHAPE) < 0.03] *= 10.0  # hot
    return Scmos(2.2 * (1 + spread * rng.standard_normal(SHAPE)), rng.normal(100, 2, SHAPE), var)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Dark and flats of one sCMOS chip, 300 frames each, under a lamp that drifts and flickers."""
    place = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(9)
    draw(place / "dark.npy", chip(), 0.0, 300, 1)
    for k, level in enumerate(LEVELS):
        lamp = 1 + 0.05 * np.sin(np.arange(300) / 40) + 0.02 * rng.standard_normal(300)
        draw(place / f"flat-{k}.npy", chip(), level, 300, 2 + k, lamp)
    return place


def flats(place: Path) -> list[Path]:
    return sorted(place.glob("flat-*.npy"))


def test_each_pixels_gain_and_noise_lie_within_their_errors(folder):
    """The lamp's changes are larger than the shot noise of the brightest level (50 of 200 e)."""
    camera = chip()
    dark = read_series(folder / "dark.npy")
    lines = fit_lines(dark, [read_series(p) for p in flats(folder)], 65535, K_POISSON)
    z = (lines.slope - camera.gain_adu_per_e) / lines.sd_slope
    assert abs(z.mean()) < 4 / 64
    assert z.std() == pytest.approx(1, abs=0.05)  # 4 s.e.
    truth = camera.var_e2 * camera.gain_adu_per_e**2 + ROUNDING
    z = (lines.dark_var - truth) / lines.sd_dark_var
    assert z.std() == pytest.approx(1, abs=0.06)  # chi-square is not quite normal at 298
    assert abs(np.mean(lines.dark_var / truth) - 1) < 4 * np.sqrt(2 / 300) / 64


def test_the_map_in_the_file_is_better_than_each_pixels_own_and_knows_its_error(folder):
    camera = chip()
    result = calibrate(folder / "dark.npy", flats(folder), Options())
    assert result.lines is not None
    kept, sd = result.file.values["gain_adu_per_e"], result.file.errors["gain_adu_per_e"]
    error = kept - camera.gain_adu_per_e
    assert np.std(error) < 0.65 * np.std(result.lines.slope - camera.gain_adu_per_e)
    # the prior's width comes from these pixels too: 8 % is four times its 2 %
    assert np.std(error / sd) == pytest.approx(1, abs=0.08)
    z = (result.file.values["offset_adu"] - camera.offset_adu) / result.file.errors["offset_adu"]
    assert z.std() == pytest.approx(1, abs=0.05)
    truth = camera.var_e2 + ROUNDING / camera.gain_adu_per_e**2
    z = (result.file.values["var_e2"] - truth) / result.file.errors["var_e2"]
    assert z.std() == pytest.approx(1, abs=0.08)
    assert result.summary["gain_spread"] == pytest.approx(0.03, rel=0.15)
    assert result.summary["bad_pixels"] == 0
    hot = np.count_nonzero(camera.var_e2 > 5 * np.median(camera.var_e2))
    assert result.summary["hot_pixels"] == pytest.approx(hot, rel=0.15)


def test_the_common_gain_covers_the_truth(tmp_path):
    """Ten small chips of one gain: the ten z have s.d. 1 within 3 s.e. (3 / sqrt(20) = 0.67)."""
    z = []
    for seed in range(10):
        camera = chip(seed, spread=0.0)
        dark = draw(tmp_path / "dark.npy", camera, 0.0, 100, 10 * seed)
        paths = [
            draw(tmp_path / f"flat-{k}.npy", camera, level, 100, 10 * seed + 1 + k)
            for k, level in enumerate((30.0, 120.0))
        ]
        found = calibrate(dark, paths, Options()).summary
        assert found["gain_spread"] < 0.01  # there is none to be resolved
        z.append((found["gain_adu_per_e"] - 2.2) / found["sd_gain_adu_per_e"])
    assert np.std(z) == pytest.approx(1, abs=0.67)
    assert abs(np.mean(z)) < 3 / np.sqrt(10)


def test_an_emccds_four_numbers_lie_within_their_errors(tmp_path):
    z = []
    for seed in range(6):
        camera = Emccd(50.0, 2.0, 10.0, 400.0)
        dark = draw(tmp_path / "dark.npy", camera, 0.02, 100, 100 + 10 * seed)
        paths = [
            draw(tmp_path / f"flat-{k}.npy", camera, level, 100, 101 + 10 * seed + k)
            for k, level in enumerate((5.0, 40.0))
        ]
        found = calibrate(dark, paths, Options(model="emccd")).summary
        z.append(
            [
                (found["gain_adu_per_e"] - 50) / found["sd_gain_adu_per_e"],
                (found["gain_from_dark_adu_per_e"] - 50) / found["sd_gain_from_dark_adu_per_e"],
                (found["offset_adu"] - 400) / found["sd_offset_adu"],
                (found["readout_adu"] - 10) / found["sd_readout_adu"],
            ]
        )
    # 24 numbers: 3 s.e. of their s.d. is 0.43
    assert np.std(z) == pytest.approx(1, abs=0.43)
    assert np.abs(np.mean(z, axis=0)).max() < 3.5 / np.sqrt(6)
    lines = fit_lines(read_series(dark), [read_series(p) for p in paths], 65535, K_MULTIPLIED)
    assert np.std((lines.slope - 100) / lines.sd_slope) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("spurious", "gain", "readout"), [(0.005, 150.0, 20.0), (0.2, 30.0, 6.0)])
def test_the_dark_mixture_holds_from_little_to_much_spurious_charge(spurious, gain, readout):
    rng = np.random.default_rng(3)
    counts = Emccd(gain, 2.0, readout, 500.0).sample(np.full(1_000_000, spurious), rng)
    found = fit_dark(np.bincount(counts, minlength=1 << 16), "x")
    truth = (500.0, readout, spurious, gain)
    for k, value in enumerate(truth):
        # three electrons in one pixel stand in the model as two: at 0.2 that is 1 in 900
        assert abs(found[k] - value) < 4 * found.sd[k] + 0.004 * value * (spurious > 0.1)


def test_a_fit_over_a_masked_pixel_is_unbiased(tmp_path):
    """A pixel stuck at 40,000 counts, on the spot's flank: as if it were not there.

    4000 fits: a mean is known to 1/63 s.d.; 4 of these are 0.063. Without the mask each is lost.
    """
    rng = np.random.default_rng(11)
    gain, offset, var = (np.full((9, 9), v) for v in (2.2, 100.0, 1.5))
    rate = 5.0 + spot_image(4.0, 4.0, 1000.0, 1.2, (9, 9))
    rois = Scmos(gain, offset, var).sample(np.tile(rate, (4000, 1, 1)), rng)
    rois[:, 4, 5] = 40_000
    path = tmp_path / "cal.npz"
    gain[4, 5] = np.nan
    np.savez(path, gain_adu_per_e=gain, offset_adu=offset, var_e2=var)
    camera, notes = camera_of(read_camera_file(path), path, (9, 9), model="scmos")
    assert "1 of 81 pixels" in notes[0]
    fits = fit_rois(rois, camera, 1.2)
    assert np.mean(fits["status"] == 0) > 0.99
    fits = fits[fits["status"] == 0]
    sd = np.sqrt(np.diagonal(fits["covariance"], axis1=1, axis2=2))
    for k, (name, truth) in enumerate(
        (("x_px", 0.0), ("y_px", 0.0), ("photons", 1000.0), ("bg_photons", 5.0), ("sigma_px", 1.2))
    ):
        z = (fits[name] - truth) / sd[:, k]
        # photons, background and width of a maximum-likelihood fit are off by some % of an s.d.
        assert abs(z.mean()) < (0.063 if k < 2 else 0.15), name
        assert z.std() == pytest.approx(1, abs=0.06), name


def test_dim_molecules_are_found_from_three_pixels_off_a_masked_one():
    """200 photons on 5 electrons, 3 to 4 px away; without a mask all are found, with it 8 in 10."""
    rng = np.random.default_rng(12)
    gain, offset, var = (np.full((48, 48), v) for v in (2.2, 100.0, 1.5))
    whole = Scmos(gain, offset, var)
    gain[24, 24], var[24, 24] = MASKED_GAIN, MASKED_E2
    localizer = Localizer(Scmos(gain, offset, var), 0.1, 0.12, (48, 48))
    found = 0
    for k in range(60):
        x, y = 24 + rng.uniform(3, 4), 24 + rng.uniform(-1, 1)
        adu = whole.sample(5.0 + spot_image(x, y, 200.0, 1.2, (48, 48)), rng)
        adu[24, 24] = 40_000
        table = localizer(Frame(k, 0.0, adu, 0.02)).table
        found += np.any(np.hypot(table["x_um"] - 0.1 * x, table["y_um"] - 0.1 * y) < 0.15)
    assert found >= 48  # 52 seen; 54 or more with the first detector


def test_dead_and_stuck_pixels_are_found_and_masked(tmp_path):
    camera = chip(8)
    rng = np.random.default_rng(4)
    stuck, dead, odd = (3, 5), (40, 41), (20, 9)
    for name, level in (("dark", 0.0), ("flat-0", 50.0), ("flat-1", 150.0)):
        frames = np.stack([camera.sample(np.full(SHAPE, level), rng) for _ in range(150)])
        frames[:, *stuck] = 65535
        frames[:, *dead] = rng.normal(100, 3, 150).round()
        frames[:, *odd] = np.clip(100 + 3 * (frames[:, *odd].astype(int) - 100), 0, 65535)
        np.save(tmp_path / f"{name}.npy", frames)
    result = calibrate(tmp_path / "dark.npy", flats(tmp_path), Options())
    assert result.file.bad is not None
    assert set(zip(*(a.tolist() for a in np.nonzero(result.file.bad)), strict=True)) == {
        stuck,
        dead,
        odd,
    }
    write_camera_file(tmp_path / "cal.npz", result.file)
    content = read_camera_file(tmp_path / "cal.npz")
    found, notes = camera_of(content, tmp_path / "cal.npz", SHAPE)
    assert isinstance(found, Scmos)
    assert "3 of 4096" in notes[0]
    for at in (stuck, dead, odd):
        assert found.var_e2[at] == MASKED_E2
        assert found.gain_adu_per_e[at] == MASKED_GAIN
