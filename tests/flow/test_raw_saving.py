"""A run saves what its source hands over, and its own raw file gives the same answers."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.config import ConfigError, parse
from livespt.journal import read_run
from livespt.micromanager import ride_along
from livespt.presets import follow_config, replay_config
from livespt.session import Session
from livespt.sources.replay import open_movie
from livespt.types import Frame, SourceInfo
from livespt.wire import schema

OPTICS = {"pixel_um": 0.1, "sigma_um": 0.1}
CAMERA = {"model": "scmos", "gain_adu_per_e": 2.2, "offset_adu": 100.0, "var_e2": 1.2}


def run_config(folder, **sections):
    return parse(
        {
            "camera": CAMERA,
            "optics": OPTICS,
            "journal": {"folder": str(folder), "name": "raw"},
            "wire": {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"},
        }
        | sections
    )


class Burst:
    """A camera of its own pace that sends all at once and uses one array for it."""

    info = SourceInfo("burst", (128, 128), 0.01, 0.01, None, True)

    def __init__(self, n):
        self._n = n

    def frames(self):
        adu = np.empty(self.info.shape, np.uint16)
        for i in range(self._n):
            adu[:] = pixels(i)
            yield Frame(i, 0.01 * i, adu, 0.01)

    def close(self):
        pass


def pixels(i):
    return np.random.default_rng([9, i]).poisson(120, (128, 128)).astype(np.uint16)


def test_frames_that_analysis_sheds_are_saved_all_the_same(tmp_path):
    config = run_config(
        tmp_path,
        source={"kind": "simulated", "ring_frames": 4},
        raw={"save": True, "buffer_mb": 64.0},
    )
    messages: list[schema.AnyMessage] = []
    with Session(config, source=Burst(150), listeners=[messages.append]) as session:
        result = session.run()
    assert result.frames["in"] == 150
    assert result.frames["shed"] > 0
    assert result.raw is not None
    assert (result.raw["frames"], result.raw["unsaved"]) == (150, 0)
    movie = open_movie(result.raw["path"])
    assert all(np.array_equal(movie.read(i), pixels(i)) for i in range(150))
    last = [m for m in messages if isinstance(m, schema.StatusMessage)][-1]
    assert (last.frames_saved, last.frames_unsaved) == (150, 0)
    events = read_run(result.run).events
    assert any("the disk has room for" in event.message for event in events)


def test_a_replay_of_the_raw_file_gives_the_live_answers_bit_for_bit(tmp_path):
    options = {"n_frames": 80, "seed": 4, "paced": False}
    live = run_config(
        tmp_path, source={"kind": "simulated", "options": options}, raw={"save": True}
    )
    with Session(live) as session:
        first = session.run()
    assert first.raw is not None
    again = run_config(tmp_path, source={"kind": "replay", "options": {"path": first.raw["path"]}})
    with Session(again) as session:
        second = session.run()
    assert second.failed == ""
    a, b = read_run(first.run), read_run(second.run)
    assert len(a.estimates) > 500
    assert a.frames["t_s"].tobytes() == b.frames["t_s"].tobytes()
    assert a.spots.tobytes() == b.spots.tobytes()
    assert a.estimates.tobytes() == b.estimates.tobytes()
    assert first.final.D_um2_s.tobytes() == second.final.D_um2_s.tobytes()


def test_a_disk_without_room_is_refused_before_the_camera_starts(tmp_path):
    config = run_config(tmp_path, raw={"save": True, "keep_free_gb": 1e9})
    with pytest.raises(ConfigError, match=r"raw\.save: .* no room for a second .* 1e\+09 GB"):
        Session(config)
    assert list(tmp_path.iterdir()) == []


def test_raw_files_may_go_to_a_disk_of_their_own(tmp_path):
    config = run_config(
        tmp_path / "runs",
        source={"kind": "simulated", "options": {"n_frames": 3, "paced": False}},
        journal={"enabled": False},
        raw={"save": True, "folder": str(tmp_path / "fast")},
    )
    with Session(config) as session:
        result = session.run()
    assert result.raw is not None
    assert [path.name for path in (tmp_path / "fast").rglob("*.tif")] == ["raw.ome.tif"]
    assert open_movie(result.raw["path"]).n_frames == 3


def test_a_run_that_keeps_no_folder_says_where_to_save(tmp_path):
    config = run_config(tmp_path, journal={"enabled": False}, raw={"save": True})
    with pytest.raises(ConfigError, match=r"raw\.save: .* give raw\.folder"):
        Session(config)


def test_a_ride_along_leaves_saving_to_the_acquisition(tmp_path):
    config = run_config(tmp_path, raw={"save": True})
    with pytest.raises(ConfigError, match=r"raw\.save: .* the acquisition saves"):
        ride_along(config, object())


@pytest.mark.parametrize("preset", [replay_config, follow_config])
def test_what_is_in_files_already_is_not_saved_again(tmp_path, preset):
    path = tmp_path / "run.toml"
    path.write_text("[raw]\nsave = true\n")
    assert preset(tmp_path / "raw.ome.tif", path).raw.save is False
