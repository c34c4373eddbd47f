"""Raw files after a kill, and on a disk that takes no more."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from livespt.config import dump, parse
from livespt.journal import read_run
from livespt.sources.follow import open_source as open_follow
from livespt.sources.replay import open_movie
from livespt.types import Frame

#: Writes frames, each of one count, as fast as it can until it is killed.
FOREVER = """
import sys, time
from pathlib import Path
import numpy as np
from livespt.raw import RawWriter, Saver
from livespt.types import Frame, SourceInfo
shape = int(sys.argv[2]), int(sys.argv[2])
writer = RawWriter(Path(sys.argv[1]), SourceInfo("x", shape, .01, .01, None, True), 0.1, 0.004, 0.0)
saver = Saver(writer, 64, waits=True)
adu = np.empty(shape, np.uint16)
for i in range(3000):
    adu[:] = i % 65521
    saver.take(Frame(i, i * 0.01, adu, 0.01))
time.sleep(60)
"""


@pytest.mark.parametrize("side", [40, 300])
@pytest.mark.parametrize("after", [1, 15])
def test_a_killed_writer_leaves_every_frame_that_was_written(tmp_path, side, after):
    """Killed at a moment of its own; at most a 32 MB call's frames were on their way."""
    script = [sys.executable, "-c", FOREVER, str(tmp_path), str(side)]
    path = tmp_path / "raw.ome.tif"
    kill_at(path, 8192 + 2 * side * side * after, subprocess.Popen(script))
    movie = open_movie(path)
    assert movie.torn == ""
    assert movie.n_frames >= 1
    assert movie.index is not None
    assert np.array_equal(movie.index, np.arange(movie.n_frames))
    for i in range(0, movie.n_frames, max(1, movie.n_frames // 50)):
        assert np.all(movie.read(i) == i % 65521)
    assert np.all(movie.read(movie.n_frames - 1) == (movie.n_frames - 1) % 65521)
    movie.close()
    with tifffile.TiffFile(path) as tif:  # a good TIFF, no log line about damage
        assert np.all(tif.pages[-1].asarray() == len(tif.pages) - 1)


def test_a_killed_writers_files_can_be_followed(tmp_path):
    path = tmp_path / "raw.ome.tif"
    script = [sys.executable, "-c", FOREVER, str(tmp_path), "300"]
    kill_at(path, 1_000_000, subprocess.Popen(script))
    whole = open_movie(path).n_frames
    options = {"path": str(path), "end_after_s": 0.2, "paced": False}
    got = [item for item in open_follow(options).frames() if isinstance(item, Frame)]
    assert [frame.index for frame in got] == list(range(whole))


def kill_at(path, n_bytes, writer):
    """Kill the writer once its first file has so many bytes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size > n_bytes:
            break
        time.sleep(1e-3)
    writer.kill()
    writer.wait()


LIMITED = """
import resource, sys
from livespt.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(["run", sys.argv[2], "--json"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_a_run_goes_on_when_the_disk_takes_no_more(tmp_path):
    """No file may be larger than 2 MB: 15 frames of 131 kB, and the journal of 60 frames."""
    config = parse(
        {
            "source": {"kind": "simulated", "options": {"n_frames": 60, "paced": False}},
            "journal": {"folder": str(tmp_path / "runs")},
            "raw": {"save": True, "keep_free_gb": 0.0},
            "wire": {"enabled": False},
        }
    )
    path = tmp_path / "run.toml"
    path.write_text(dump(config))
    script = [sys.executable, "-c", LIMITED, "2000000", str(path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["frames"] == {"in": 60, "processed": 60, "shed": 0, "missing": 0}
    saved = answer["raw"]
    assert saved["frames"] == (2000000 - 4096) // (131072 + 4096)
    assert saved["frames"] + saved["unsaved"] == 60
    assert "File too large" in saved["trouble"]
    told = [event for event in read_run(answer["run"]).events if event.kind == "unsaved"]
    assert sum(event.n_frames for event in told) == saved["unsaved"]
    assert "analysis goes on" in told[0].message
    movie = open_movie(saved["path"])
    assert movie.n_frames == saved["frames"]
