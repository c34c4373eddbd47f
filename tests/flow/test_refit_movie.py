"""`livespt refit MOVIE`: found, linked and fitted in one go, from tracks or from pixels."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from livespt.camera import Scmos
from livespt.cli import main
from livespt.psf import spot_image

PIXEL_UM, D_UM2_S, DT_S, EXPOSURE_S = 0.1, 0.05, 0.02, 0.002
N, SHAPE, CAMERA = 60, (64, 80), Scmos(2.2, 100.0, 1.6)
CONFIG = f"""
[camera]
model = "scmos"
gain_adu_per_e = {CAMERA.gain_adu_per_e}
offset_adu = {CAMERA.offset_adu}
var_e2 = {CAMERA.var_e2}
[optics]
pixel_um = {PIXEL_UM}
sigma_um = 0.1
"""
STARTS_PX = np.array([[14.0, 14.0], [40.0, 14.0], [66.0, 14.0], [14.0, 48.0], [40.0, 48.0]])


def movie(rng) -> np.ndarray:
    """Five molecules of 800 photons, apart, that stand still while the shutter is open."""
    steps = rng.normal(0, np.sqrt(2 * D_UM2_S * DT_S) / PIXEL_UM, (N, len(STARTS_PX), 2))
    adu = np.empty((N, *SHAPE), np.uint16)
    for t, places in enumerate(STARTS_PX + np.cumsum(steps, axis=0)):
        rate = np.full(SHAPE, 8.0)
        for x, y in places:
            rate += spot_image(x, y, 800.0, 1.0, SHAPE)
        adu[t] = CAMERA.sample(rate, rng)
    return adu


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movie")
    np.save(folder / "m.npy", movie(np.random.default_rng(4)))
    (folder / "c.toml").write_text(CONFIG)
    return folder


@pytest.fixture
def fit(place, capsys):
    def run(method, *more, name="m.npy", code=0):
        given = ["--config", str(place / "c.toml"), "--frame-ms", "20", "--exposure-ms", "2"]
        arguments = ["refit", str(place / name), *given, "--method", method, "--json", *more]
        assert main(arguments) == code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize(
    "method",
    [
        "l-ml",
        "gf-mle",
        "mle-scmos",
        "gf-msd",
        "u-em",
        "smc-em",
        pytest.param("point-mass", marks=pytest.mark.long),  # 9 s a molecule so bright
    ],
)
def test_every_method_from_pixels_runs_on_a_movie(fit, method):
    """Five tracks of 60 frames: one D has a standard error of 6 to 8 %; MSD lines are poor."""
    few = ["--set", "n_particles=60"] if method == "smc-em" else []
    answer = fit(method, *few)
    found = {p["name"]: p for p in answer["parameters"]}
    assert answer["method"] == method
    assert answer["n_tracks"] == 5
    assert [row["n_positions"] for row in answer["tables"]["tracks"]] == [N] * 5
    assert found["D_um2_s"]["value"] == pytest.approx(D_UM2_S, rel=0.8 if "msd" in method else 0.3)
    assert found["D_um2_s"]["low"] < found["D_um2_s"]["value"] < found["D_um2_s"]["high"]
    between = [found[f"D_{axis}_um2_s"]["value"] for axis in "xy"]
    assert found["D_um2_s"]["value"] == pytest.approx(np.mean(between))


def test_light_is_found_with_the_molecules(fit):
    found = {p["name"]: p for p in fit("l-ml")["parameters"]}
    assert found["photons"]["value"] == pytest.approx(800.0, rel=0.02)
    assert found["bg_photons"]["value"] == pytest.approx(8.0, rel=0.02)


def test_the_refined_positions_of_all_tracks_are_written(fit, place):
    out = place / "refined.parquet"
    answer = fit("l-ml", "--out", str(out))
    table = pq.read_table(out).to_pydict()
    assert len(table["x_um"]) == answer["n_positions"] == 5 * N
    assert sorted(set(table["track"])) == sorted(row["track"] for row in answer["tables"]["tracks"])
    assert min(table["var_x_um2"]) > 0


def test_a_method_of_tracks_finds_links_and_fits_in_one_go(fit):
    """As the three commands one after the other, but for the borders, which a table forgets."""
    answer = fit("ml")
    found = {p["name"]: p for p in answer["parameters"]}["D_um2_s"]
    assert answer["n_tracks"] == 5
    assert found["low"] < D_UM2_S < found["high"]
    assert answer["provenance"]["exposure_s"] == EXPOSURE_S


def test_the_same_movie_gives_the_same_answer(fit):
    """Threads fit side by side, and particles are drawn anew for each molecule."""
    settings = ["--set", "n_particles=40", "--seed", "3"]
    first, again = (fit("smc-em", *settings)["parameters"] for _ in range(2))
    assert first == again


def test_tracks_without_a_movie_are_told_to_bring_one(place, capsys):
    table = place / "t.csv"
    table.write_text("track,frame,x_um,y_um\n0,0,1,1\n0,1,1.1,1\n")
    assert main(["refit", str(table), "--frame-ms", "20", "--method", "l-ml"]) == 2
    said = capsys.readouterr().err
    assert "holds no pixels, which l-ml fits; give the movie" in said
    assert len(said.splitlines()) == 1


def test_movies_are_refitted_one_at_a_time(place, capsys):
    two = [str(place / "m.npy"), str(place / "n.npy")]
    assert main(["refit", *two, "--out", str(place / "o")]) == 2
    assert "one at a time" in capsys.readouterr().err


def test_a_movie_without_a_molecule_is_refused_by_name(fit, place, rng):
    np.save(place / "dark.npy", CAMERA.sample(np.full((20, *SHAPE), 8.0), rng))
    said = fit("l-ml", name="dark.npy", code=2)["error"]
    assert "dark.npy" in said
    assert "no molecule was found" in said or "no track" in said


def test_tracks_too_short_to_be_fitted_are_counted(fit):
    said = fit("l-ml", "--least-frames", "61", code=2)["error"]
    assert "no track whose pixels can be fitted" in said
    assert "tracks of fewer than 61 frames" in said
