"""`livespt link`: a table of localizations in, the same rows with tracks out, and an answer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import csv, parquet

from livespt.cli import main

_spec = importlib.util.spec_from_file_location(
    "link_scene", Path(__file__).parents[1] / "statistics" / "link_scene.py"
)
assert _spec is not None
assert _spec.loader is not None
scenes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)

SAYS = ["--frame-ms", "20", "--field-um", "40", "40"]
PIXEL_UM = 0.1


@pytest.fixture(scope="module")
def spots() -> dict[str, np.ndarray]:
    """Fifty molecules of D .05 and 1 um2/s over 200 frames, shuffled."""
    scene = scenes.make_scene(50, 200, 3)
    n = [len(s.table) for s in scene.spots]
    table = np.concatenate([s.table for s in scene.spots])
    order = np.random.default_rng(1).permutation(len(table))
    return {
        "frame": np.repeat(np.arange(200), n)[order],
        "x_um": table["x_um"][order],
        "y_um": table["y_um"][order],
        "who": np.concatenate(scene.owner)[order],
    }


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(spots, name="t.parquet", **columns):
    """Write the spots in our own layout."""
    table = pa.table(spots | {"sd_um": np.full(len(spots["frame"]), 0.03)} | columns)
    if name.endswith(".csv"):
        csv.write_csv(table, name)
    else:
        parquet.write_table(table, name)
    return name


def run(capsys, name, *arguments, out="o.parquet"):
    assert main(["link", name, "--out", out, *SAYS, *arguments, "--json"]) == 0
    read = csv.read_csv(out) if out.endswith(".csv") else parquet.read_table(out)
    return json.loads(capsys.readouterr().out), read


def complain(capsys, name, *arguments, out="o.parquet"):
    before = sorted(p.name for p in Path().iterdir())
    assert main(["link", name, "--out", out, "--frame-ms", "20", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sorted(p.name for p in Path().iterdir()) == before
    return line


def test_the_number_of_states_can_be_found_from_the_table(spots, capsys):
    given, _ = run(capsys, write(spots), "--lag", "0")
    found, out = run(capsys, write(spots), "--lag", "0", "--states", "auto")
    assert found["final"]["D_um2_s"] == given["final"]["D_um2_s"]
    assert {"p_state_0", "p_state_1"} <= set(out.column_names)
    assert "p_state_2" not in out.column_names


def test_the_answer_is_the_scenes_and_the_rows_are_the_tables(spots, capsys):
    answer, out = run(capsys, write(spots))
    final = answer["final"]
    for found, low_high, truth in zip(final["D_um2_s"], final["D_95"], (0.05, 1.0), strict=True):
        assert found == pytest.approx(truth, rel=0.1)
        assert low_high[0] < found < low_high[1]
    for a, b in ((0, 1), (1, 0)):
        assert 0.01 < final["p_switch"][a][b] < 0.04
    assert answer["frames"] == 200
    assert answer["spots"] == len(spots["frame"]) == out.num_rows
    assert {"link", "infer", "total"} == answer["ms_per_frame"].keys()
    for name, values in spots.items():
        assert np.array_equal(out[name].to_numpy(), values)
    track = out["track_id"].to_numpy()
    assert (track >= 0).all()
    assert len(np.unique(track)) == answer["tracks"]
    # smoothed positions lie nearer to each other along a slow track than the spots do
    assert out["smooth_x_um"].null_count == 0
    p = out["p_state_0"].to_numpy() + out["p_state_1"].to_numpy()
    assert p == pytest.approx(np.ones(len(p)))


def test_most_steps_join_spots_of_one_molecule(spots, capsys):
    _, out = run(capsys, write(spots))
    rows = np.lexsort((spots["frame"], out["track_id"].to_numpy()))
    track, who = out["track_id"].to_numpy()[rows], spots["who"][rows]
    same = track[1:] == track[:-1]
    assert np.mean(who[1:][same] == who[:-1][same]) > 0.97


def test_what_link_writes_is_refitted_to_the_same_answer(spots, capsys):
    """Both climb the same likelihood, from elsewhere and with another centre of a weak prior."""
    answer, _ = run(capsys, write(spots))
    assert main(["refit", "o.parquet", *SAYS[:2], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "ok"
    for k, final in enumerate(answer["final"]["D_um2_s"]):
        D = found["parameters"][k]
        assert D["name"] == f"D_um2_s[{k}]"
        # refit knows no field of view, so steps near the border count too
        assert abs(D["value"] - final) < D["sd"]


def test_every_layout_says_the_same(spots, capsys):
    ours, _ = run(capsys, write(spots, "t.csv"), out="o.csv")
    n = len(spots["frame"])
    nm = {"frame": spots["frame"] + 1, "x [nm]": 1e3 * spots["x_um"], "y [nm]": 1e3 * spots["y_um"]}
    csv.write_csv(pa.table(nm | {"uncertainty_xy [nm]": np.full(n, 30.0)}), "storm.csv")
    locs = np.zeros(n, [("frame", "u4"), ("x", "f8"), ("y", "f8"), ("lpx", "f8"), ("lpy", "f8")])
    locs["frame"], locs["x"], locs["y"] = (
        spots["frame"], spots["x_um"] / PIXEL_UM, spots["y_um"] / PIXEL_UM,
    )  # fmt: skip
    locs["lpx"] = locs["lpy"] = 0.03 / PIXEL_UM
    with h5py.File("picasso.hdf5", "w") as file:
        file["locs"] = locs
    about = [{"Width": 400, "Height": 400}, {"Generated by": "a test", "Pixelsize": 100}]
    Path("picasso.yaml").write_text(yaml.safe_dump_all(about), encoding="utf-8")
    for name in ("storm.csv", "picasso.hdf5"):
        theirs, _ = run(capsys, name)
        assert theirs["tracks"] == ours["tracks"]
        assert theirs["final"]["D_um2_s"] == pytest.approx(ours["final"]["D_um2_s"], rel=1e-6)


def test_bad_rows_are_kept_and_not_linked(spots, capsys):
    status = np.zeros(len(spots["frame"]), np.uint8)
    status[::10] = 4
    x_um = np.where(status == 0, spots["x_um"], np.nan)
    _, out = run(capsys, write(spots | {"x_um": x_um}, status=status))
    track = out["track_id"].to_numpy()
    assert np.array_equal(track < 0, status != 0)
    assert out["smooth_x_um"].null_count == np.count_nonzero(status)


def test_a_column_of_the_same_name_is_kept_under_another(spots, capsys):
    _, out = run(capsys, write(spots, track_id=spots["who"]))
    assert np.array_equal(out["track_id_in"].to_numpy(), spots["who"])


def test_times_of_the_table_count(spots, capsys):
    """A camera at half the speed that was said: D comes out half as large."""
    plain, _ = run(capsys, write(spots))
    timed, _ = run(capsys, write(spots, t_s=0.04 * spots["frame"]), "--exposure-ms", "20")
    ratio = np.array(timed["final"]["D_um2_s"]) / plain["final"]["D_um2_s"]
    assert ratio == pytest.approx([0.5, 0.5], rel=0.25)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"x_um": None}, "expected frame, x_um, y_um and sd_um"),
        ({"frame": None}, "no column 'frame'"),
        ({"sd_um": [0.03, 0.0]}, "row 2: sd_um is 0; expected a number > 0"),
        ({"x_um": [1.0, float("nan")]}, "row 2: x_um is nan"),
        ({"frame": [0.0, 0.5]}, "row 2: frame is 0.5; expected a whole number"),
        ({"frame": [0, 10**9]}, "is 'frame' a time?"),
        ({"y_um": ["a", "b"]}, "column 'y_um' holds string"),
        ({"status": [1, 1]}, "no good localization"),
        ({"t_s": [1.0, 1.0]}, "t_s: expected one time"),
    ],
)
def test_bad_tables_are_named(change, expected, capsys):
    columns = {"frame": [0, 1], "x_um": [1.0, 1.0], "y_um": [1.0, 1.0], "sd_um": [0.03, 0.03]}
    columns = {k: v for k, v in (columns | change).items() if v is not None}
    parquet.write_table(pa.table(columns), "t.parquet")
    line = complain(capsys, "t.parquet")
    assert "t.parquet" in line
    assert expected in line


def test_bad_files_and_options_are_named(spots, capsys):
    assert "none.csv: no such file" in complain(capsys, "none.csv")
    Path("broken.parquet").write_bytes(b"no")
    assert "broken.parquet: cannot be read" in complain(capsys, "broken.parquet")
    Path("t.txt").write_text("frame")
    assert "expected a table in" in complain(capsys, "t.txt")
    with h5py.File("other.hdf5", "w") as file:
        file["x"] = np.zeros(3)
    assert "'locs'" in complain(capsys, "other.hdf5")
    name = write(spots)
    assert "--states: 5" in complain(capsys, name, "--states", "5")
    assert "--exposure-ms: 30" in complain(capsys, name, "--exposure-ms", "30")
    assert "expected a name in" in complain(capsys, name, out="o.xlsx")
    assert "no such folder" in complain(capsys, name, out="nowhere/o.csv")


def test_a_picasso_file_without_a_pixel_size_asks_for_it(capsys):
    locs = np.ones(3, [("frame", "u4"), ("x", "f4"), ("y", "f4"), ("lpx", "f4"), ("lpy", "f4")])
    with h5py.File("p.hdf5", "w") as file:
        file["locs"] = locs
    assert "--pixel-um" in complain(capsys, "p.hdf5")
    locs["frame"] = [0, 1, 2]
    with h5py.File("p.hdf5", "w") as file:
        file["locs"] = locs
    assert main(["link", "p.hdf5", "--out", "o.csv", "--frame-ms", "20", "--pixel-um", ".1"]) == 0
