"""What `read_tracks` and `livespt refit` make of tables that are wrong."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from livespt.cli import main
from livespt.refit import RefitError, read_tracks

N_TRACKS, N_FRAMES = 6, 8


@pytest.fixture
def columns(rng) -> dict[str, np.ndarray]:
    """Six walks of eight frames."""
    steps = rng.normal(0, 0.1, (N_TRACKS, N_FRAMES, 2))
    place = steps.cumsum(axis=1).reshape(-1, 2)
    return {
        "track": np.repeat(np.arange(N_TRACKS), N_FRAMES),
        "frame": np.tile(np.arange(N_FRAMES), N_TRACKS),
        "x_um": place[:, 0],
        "y_um": place[:, 1],
        "sd_x_um": np.full(len(place), 0.02),
        "sd_y_um": np.full(len(place), 0.03),
    }


@pytest.fixture
def read(tmp_path):
    """Write columns as CSV and read them back as tracks."""

    def through(columns, **more):
        path = tmp_path / "tracks.csv"
        csv.write_csv(pa.table(columns), path)
        return read_tracks(path, **({"frame_ms": 10.0} | more))

    return through


def test_a_good_table_is_read_whole(columns, read):
    table = read(columns)
    assert (table.n_tracks, table.x_um.size) == (N_TRACKS, N_TRACKS * N_FRAMES)
    np.testing.assert_allclose(table.x_um, columns["x_um"])
    np.testing.assert_allclose(table.sd_um[0], [0.02, 0.03])
    assert (table.interval_s, table.exposure_s) == (0.01, 0.01)
    assert not any(table.left_out.values())


def test_parquet_is_read_like_csv(columns, read, tmp_path):
    path = tmp_path / "tracks.parquet"
    parquet.write_table(pa.table(columns), path)
    np.testing.assert_array_equal(read_tracks(path, frame_ms=10).x_um, read(columns).x_um)


def test_rows_may_come_in_any_order(columns, read, rng):
    order = rng.permutation(N_TRACKS * N_FRAMES)
    shuffled = read({name: values[order] for name, values in columns.items()})
    np.testing.assert_array_equal(shuffled.x_um, read(columns).x_um)


@pytest.mark.parametrize(
    "column, value, reason",
    [
        ("x_um", np.nan, "position not a number"),
        ("y_um", np.inf, "position not a number"),
        ("sd_x_um", -0.01, "no standard error > 0"),
        ("sd_y_um", 0.0, "no standard error > 0"),
        ("track", -1, "rows without a track"),
    ],
)
def test_a_row_that_no_fit_can_use_is_counted_and_left_out(columns, read, column, value, reason):
    columns[column] = columns[column].copy()
    columns[column][13] = value
    table = read(columns)
    assert table.left_out[reason] == 1
    assert table.x_um.size == N_TRACKS * N_FRAMES - 1
    assert np.isfinite(table.x_um).all()


def test_a_frame_twice_in_a_track_counts_once(columns, read):
    columns["frame"] = columns["frame"].copy()
    columns["frame"][3] = 2
    assert read(columns).left_out["frame twice in a track"] == 1


def test_tracks_of_one_position_are_counted_and_left_out(columns, read):
    columns["track"] = columns["track"].copy()
    columns["track"][-1] = 99
    table = read(columns)
    assert (table.n_tracks, table.left_out["tracks of one position"]) == (N_TRACKS, 1)


def test_a_stuck_pixel_is_no_molecule(columns, read):
    for name in ("x_um", "y_um"):
        columns[name] = columns[name].copy()
        columns[name][:N_FRAMES] = 1.25
    table = read(columns)
    assert table.n_tracks == N_TRACKS - 1
    assert table.left_out["tracks that never move (stuck pixels?)"] == 1


@pytest.mark.parametrize("names", [("x_um", "y_um"), ("sd_x_um", "sd_y_um")])
def test_nanometres_for_micrometres_are_refused(columns, read, names):
    for name in names:
        columns[name] = 1000 * columns[name]
    with pytest.raises(RefitError, match="in nm or in pixels"):
        read(columns)


def test_pixels_need_their_size(columns, read):
    pixels = {"trajectory": columns["track"], "frame": columns["frame"]}
    pixels |= {"x": columns["x_um"] / 0.16, "y": columns["y_um"] / 0.16}
    pixels |= {"x_err": np.full(48, 0.5), "y_err": np.full(48, 0.25)}
    with pytest.raises(RefitError, match="--pixel-um"):
        read(pixels)
    table = read(pixels, pixel_um=0.16)
    np.testing.assert_allclose(table.x_um, columns["x_um"])
    np.testing.assert_allclose(table.sd_um[0], [0.08, 0.04])


def test_times_are_summed_up_from_the_rows(columns, read, rng):
    since = rng.uniform(0.005, 0.02, 48)
    times = read(columns | {"dt_s": since}).t_s.reshape(N_TRACKS, N_FRAMES)
    np.testing.assert_allclose(np.diff(times), since.reshape(N_TRACKS, N_FRAMES)[:, 1:])
    since[20] = -0.01
    with pytest.raises(RefitError, match="track 2, frame 4"):
        read(columns | {"dt_s": since})


@pytest.mark.parametrize(
    "change, says",
    [
        ({"x_um": None}, "expected x_um and y_um"),
        ({"track": None}, "expected 'frame' and one of track"),
        ({"frame": np.full(48, 0.5)}, "row 1: frame is 0.5"),
        ({"x_um": np.full(48, np.nan)}, "holds null; expected numbers"),
        ({"x_um": np.full(48, "here")}, "expected numbers"),
        ({"track": np.arange(48)}, "no track that can be fitted"),
    ],
)
def test_what_cannot_be_read_is_named(columns, read, change, says):
    changed = {k: v for k, v in (columns | change).items() if v is not None}
    with pytest.raises(RefitError, match=says):
        read(changed)


@pytest.mark.parametrize("text", ["", "track,frame,x_um,y_um\n"])
def test_an_empty_file_is_named(tmp_path, text):
    path = tmp_path / "empty.csv"
    path.write_text(text)
    with pytest.raises(RefitError, match=r"empty\.csv"):
        read_tracks(path, frame_ms=10)


@pytest.mark.parametrize(
    "times, says",
    [
        ({"frame_ms": None}, "--frame-ms"),
        ({"frame_ms": 0}, "frame time 0 s"),
        ({"exposure_ms": 11}, "exposure of 0.011 s"),
        ({"exposure_ms": -1}, "exposure"),
    ],
)
def test_times_that_cannot_be_are_refused(columns, read, times, says):
    with pytest.raises(RefitError, match=says):
        read(columns, **times)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["{table}", "--method", "nonsense"], "no method 'nonsense'"),
        (["{table}", "--states", "7"], "states: 7"),
        (["{table}", "--set", "colour=red"], "no setting 'colour'"),
        (["{table}", "--set", "colour"], "name=value"),
        (["{table}", "--method", "covariance", "--seed", "3"], "no setting 'seed'"),
        (["{table}", "--out", "there/x.csv"], "no such folder"),
        (["{table}", "--method", "em", "--set", "D_um2_s=[-1,1]"], "expected numbers > 0"),
        (["movie.tif"], "movie.tif: no such movie"),
        (["nothing.csv"], "no such file"),
        ([], "give a table of tracks"),
    ],
)
def test_a_bad_command_is_one_line_and_exit_code_2(columns, tmp_path, capsys, arguments, says):
    path = tmp_path / "tracks.csv"
    csv.write_csv(pa.table(columns), path)
    given = [str(path) if a == "{table}" else a for a in arguments]
    assert main(["refit", *given, "--frame-ms", "10", "--json"]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert says in json.loads(captured.out)["error"]
