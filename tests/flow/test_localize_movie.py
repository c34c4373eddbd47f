"""`livespt localize`: a movie in, a table out; the table holds what the localizer says, no less."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from livespt.camera import Scmos
from livespt.camera_file import CameraFile, write_camera_file
from livespt.cli import main
from livespt.journal import read_parquet
from livespt.localize import Localizer
from livespt.psf import spot_image
from livespt.spot_tables import read_spot_table
from livespt.tables import LOCALIZATION_DTYPE, rows_of
from livespt.types import Frame

SHAPE = (64, 72)
CAMERA = Scmos(2.2, 100.0, 1.5)
SAYS = ["--pixel-um", "0.1", "--sigma-um", "0.12", "--frame-ms", "20"]
CHIP = ["--camera", "scmos", "--gain", "2.2", "--offset", "100", "--var-e2", "1.5"]


def movie(n: int = 30, seed: int = 1) -> np.ndarray:
    """Six molecules of 600 photons, each somewhere else in every frame, on 5 electrons."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        rate = np.full(SHAPE, 5.0)
        for x, y in rng.uniform(8, 56, (6, 2)):
            rate += spot_image(x, y, 600.0, 1.2, SHAPE)
        frames.append(CAMERA.sample(rate, rng))
    return np.stack(frames)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("movie.npy", movie())
    return tmp_path


def run(capsys, *arguments: str, out: str = "t.parquet") -> dict:
    assert main(["localize", *arguments, "--out", out, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complain(capsys, *arguments: str, out: str = "t.parquet") -> str:
    before = sorted(p.name for p in Path().iterdir())
    assert main(["localize", *arguments, "--out", out, "--json"]) == 2
    text, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert line == f"livespt: {json.loads(text)['error']}"
    assert sorted(p.name for p in Path().iterdir()) == before
    return line


def expected() -> np.ndarray:
    localizer = Localizer(CAMERA, 0.1, 0.12, SHAPE)
    frames = [Frame(k, 0.02 * k, adu, 0.02) for k, adu in enumerate(np.load("movie.npy"))]
    return np.concatenate([rows_of(localizer(frame)) for frame in frames])


def test_the_table_holds_every_fit_bit_for_bit_whatever_the_threads(place, capsys):
    answer = run(capsys, "movie.npy", *SAYS, *CHIP, "--workers", "3")
    table = read_parquet("t.parquet")
    truth = expected()
    assert table.dtype == LOCALIZATION_DTYPE
    np.testing.assert_array_equal(table, truth)
    run(capsys, "movie.npy", *SAYS, *CHIP, "--workers", "1", out="u.parquet")
    assert Path("u.parquet").read_bytes() == Path("t.parquet").read_bytes()
    good = truth[truth["status"] == 0]
    assert answer["frames"] == 30
    assert answer["missing"] == 0
    assert (answer["spots"], answer["ok_spots"]) == (len(truth), len(good))
    assert 0.8 * 6 * 30 < len(good) < 1.05 * 6 * 30  # some overlap
    sd = np.sqrt((good["sd_x_um"] ** 2 + good["sd_y_um"] ** 2) / 2)
    assert answer["median_sd_um"] == pytest.approx(np.median(sd), rel=1e-5)
    assert answer["frames_per_s"] * 64 * 72 / 1e6 == pytest.approx(answer["mpx_per_s"])


def test_csv_says_the_same_as_parquet(place, capsys):
    tifffile.imwrite("movie.tif", np.load("movie.npy"), photometric="minisblack")
    run(capsys, "movie.tif", *SAYS, *CHIP, out="t.csv")
    with open("t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = expected()
    assert list(rows[0]) == list(LOCALIZATION_DTYPE.names or ())
    for name in LOCALIZATION_DTYPE.names or ():
        np.testing.assert_array_equal([float(row[name]) for row in rows], truth[name])


def test_thunderstorm_gets_the_good_fits_in_its_own_units(place, capsys):
    run(capsys, "movie.npy", *SAYS, *CHIP, "--format", "thunderstorm", out="t.csv")
    with open("t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = expected()
    good = truth[truth["status"] == 0]
    found = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    assert ",".join(found) == (
        "id,frame,x [nm],y [nm],sigma [nm],intensity [photon],offset [photon],bkgstd [photon],"
        "uncertainty_xy [nm]"
    )
    np.testing.assert_array_equal(found["id"], np.arange(len(good)) + 1)
    np.testing.assert_array_equal(found["frame"], good["frame"] + 1)
    # its origin is the corner of a pixel: the centre of pixel 0 is at half a pixel of 100 nm
    np.testing.assert_allclose(found["x [nm]"], 1e3 * good["x_um"] + 50, rtol=1e-12)
    np.testing.assert_allclose(found["y [nm]"], 1e3 * good["y_um"] + 50, rtol=1e-12)
    np.testing.assert_allclose(found["sigma [nm]"], 1e3 * good["sigma_um"], rtol=1e-12)


def test_picasso_gets_the_good_fits_in_pixels_and_the_view_beside_them(place, capsys):
    run(capsys, "movie.npy", *SAYS, *CHIP, out="t.hdf5")
    truth = expected()
    good = truth[truth["status"] == 0]
    with h5py.File("t.hdf5") as file:
        locs = file["locs"][:]
    assert locs.dtype.names == (
        "frame", "x", "y", "sx", "sy", "lpx", "lpy", "photons", "bg",
    )  # fmt: skip
    np.testing.assert_array_equal(locs["frame"], good["frame"])
    np.testing.assert_allclose(locs["lpy"], good["sd_y_um"] / 0.1, rtol=1e-6)
    about = yaml.safe_load(Path("t.yaml").read_text())
    assert (about["Height"], about["Width"], about["Frames"]) == (*SHAPE, 30)
    again = read_spot_table(Path("t.hdf5"))  # knows the pixel size from the file beside it
    np.testing.assert_allclose(again.spots["x_um"], good["x_um"], rtol=1e-6)


def test_a_movie_without_molecules_gives_an_empty_table(place, capsys):
    np.save("empty.npy", np.full((5, *SHAPE), 100, np.uint16))
    answer = run(capsys, "empty.npy", *SAYS, *CHIP)
    assert (answer["spots"], answer["median_sd_um"]) == (0, 0.0)
    assert len(read_parquet("t.parquet")) == 0
    run(capsys, "empty.npy", *SAYS, *CHIP, out="t.csv")
    assert len(Path("t.csv").read_text().splitlines()) == 1
    run(capsys, "empty.npy", *SAYS, *CHIP, out="t.hdf5")
    assert len(h5py.File("t.hdf5")["locs"]) == 0


def test_a_calibration_and_a_config_take_the_place_of_numbers(place, capsys):
    values = {"gain_adu_per_e": np.full(SHAPE, 2.2), "offset_adu": np.full(SHAPE, 100.0)}
    values["var_e2"] = np.full(SHAPE, 1.5)
    bad = np.zeros(SHAPE, bool)
    bad[0, 0] = True
    write_camera_file(Path("cal.npz"), CameraFile("scmos", values, {}, bad))
    answer = run(capsys, "movie.npy", *SAYS, "--calibration", "cal.npz")
    assert "1 of 4608 pixels are bad and masked" in answer["notes"][0]
    assert len(read_parquet("t.parquet")) == pytest.approx(len(expected()), abs=1)
    Path("c.toml").write_text(
        "[camera]\nmodel='scmos'\ngain_adu_per_e=9.0\noffset_adu=100.0\nvar_e2=1.5\n"
        "[optics]\npixel_um=0.1\nsigma_um=0.12\n[source]\nkind='replay'\n"
        "[source.options]\npath='other.npy'\ninterval_s=0.02\nfps=1.0\n"
    )
    run(capsys, "movie.npy", "--config", "c.toml", "--gain", "2.2", out="u.parquet")
    np.testing.assert_array_equal(read_parquet("u.parquet"), expected())


def test_a_gain_upside_down_is_said(place, capsys):
    swapped = ["--camera", "scmos", "--gain", "0.4545", "--offset", "100", "--var-e2", "1.5"]
    answer = run(capsys, "movie.npy", *SAYS, *swapped)
    assert "0.455 e-/ADU is 2.2 ADU/e-" in answer["notes"][0]


def test_without_json_a_person_gets_lines(place, capsys):
    assert main(["localize", "movie.npy", *SAYS, *CHIP, "--out", "t.csv"]) == 0
    out = capsys.readouterr().out
    assert "30 frames" in out
    assert "t.csv: written" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.tif", *SAYS, *CHIP], "nowhere.tif"),
        (["movie.npy", *SAYS], "camera.model"),
        (["movie.npy", *CHIP, "--frame-ms", "20"], "optics.pixel_um"),
        (["movie.npy", *CHIP, "--pixel-um", "0.1", "--sigma-um", "0.1"], "interval"),
        (["movie.npy", *SAYS, *CHIP, "--roi-px", "8"], "localize.roi_px"),
        (["movie.npy", *SAYS, *CHIP, "--false-per-frame", "0"], "localize.false_per_frame"),
        (["movie.npy", *SAYS, *CHIP, "--excess", "3"], "camera.excess"),
        (["movie.npy", *SAYS, *CHIP, "--calibration", "none.npz"], "none.npz"),
        (["movie.npy", *SAYS, *CHIP, "--format", "excel"], "excel"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(place, capsys, arguments, word):
    assert word in complain(capsys, *arguments)


@pytest.mark.parametrize("out", ["t.txt", "t", "nowhere/t.csv", "t.csv.tmp"])
def test_a_place_or_format_that_cannot_be_is_named(place, capsys, out):
    assert out in complain(capsys, "movie.npy", *SAYS, *CHIP, out=out)
    assert "t.parquet" in complain(
        capsys, "movie.npy", *SAYS, *CHIP, "--format", "thunderstorm", out="t.parquet"
    )


def test_a_damaged_movie_leaves_no_half_table_and_the_old_one_alone(place, capsys):
    data = Path("movie.npy").read_bytes()
    Path("torn.npy").write_bytes(data[: len(data) // 2])
    Path("t.csv").write_text("what was there\n")
    line = complain(capsys, "torn.npy", *SAYS, *CHIP, out="t.csv")
    assert "cut short: 14 of 30" in line
    assert Path("t.csv").read_text() == "what was there\n"
