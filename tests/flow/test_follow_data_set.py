"""Following data sets while real writers write them, and what can go wrong meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from livespt.cli import main
from livespt.config import ConfigError
from livespt.presets import follow_config
from livespt.sources import BufferedSource, SourceError, datasets, open_source
from livespt.types import Event, Frame

sys.path.insert(0, str(Path(__file__).parents[1]))  # growing_scene.py

from growing_scene import MmStackWriter, drain, pixels

pytestmark = pytest.mark.alone

WRITER = Path(__file__).with_name("ndtiff_writer.py")
INTERVAL_S = 0.005


@pytest.fixture(autouse=True)
def _short_grace(request, monkeypatch):
    """Wait less for a next file, where no other process makes it."""
    if "ndstorage" not in request.node.name:
        monkeypatch.setattr(datasets, "GRACE_S", 0.2)


def follow(path, **options):
    return open_source("follow", {"path": str(path), "wait_s": 20.0, **options})


def play(path, **options):
    source = follow(path, **options)
    return source, list(source.frames())


def frames_of(items):
    return [item for item in items if isinstance(item, Frame)]


def kinds(items):
    return [item.kind for item in items if isinstance(item, Event)]


def write_stack(folder, n=12, pause_s=0.0, positions=1, channels=1, finish=True, **options):
    """Write what Micro-Manager writes for `n` time points, in its usual order."""
    summary = {"Interval_ms": 0, "ChNames": ["Cy5", "GFP"][:channels]}
    names = [f"run_MMStack_Pos{k}" for k in range(positions)]
    writers = [MmStackWriter(folder, name, summary, **options) for name in names]
    k = 0
    for i in range(n):
        for position, writer in enumerate(writers):
            for channel in range(channels):
                tags = {"ImageNumber": k, "ElapsedTime-ms": 1e3 * INTERVAL_S * i + channel}
                tags |= {"Exposure-ms": 4.0, "PixelSizeUm": 0.11, "Camera": "Andor"}
                tags |= {"Andor-SerialNumber": "X-123", "PositionName": f"Pos{position}"}
                writer.write(pixels(k), tags, (channel, 0, i, position))
                k += 1
                time.sleep(pause_s)
    if finish:
        for writer in writers:
            writer.finish()
    return writers


# --- real writers ---------------------------------------------------------------------------------


def test_ndstorage_at_high_rate_over_many_files_loses_nothing(tmp_path):
    """The writer is a process of its own; the data set is not there when following starts.

    The axes are in the index alone, as where Micro-Manager's window writes NDTiff.
    """
    n, shape = 300, (64, 48)
    given = {"n": n, "shape": shape, "per_file": 60, "delay_s": 0.5, "tags": False}
    writer = subprocess.Popen([sys.executable, str(WRITER), str(tmp_path), json.dumps(given)])
    source, items = play(tmp_path / "run_1")
    assert writer.wait() == 0
    frames = frames_of(items)
    assert len(list((tmp_path / "run_1").glob("*.tif"))) >= 5
    assert [f.index for f in frames] == list(range(n))
    assert [int(f.adu[0, 0]) for f in frames] == list(range(n))
    assert all(np.ptp(f.adu) == 0 for f in frames)
    assert set(kinds(items)) <= {"stalled", "resumed"}  # a busy machine may pause the writer
    assert source.info.shape == shape
    assert source.info.interval_s == pytest.approx(0.002)
    assert source.pixel_um == 0.1


def test_micro_managers_ome_tiff_is_followed_while_it_grows(tmp_path):
    writer = threading.Thread(target=write_stack, args=(tmp_path, 60, INTERVAL_S))
    writer.start()
    source, items = play(tmp_path)
    writer.join()
    frames = frames_of(items)
    assert len(list(tmp_path.glob("*.ome.tif"))) > 5
    assert [f.index for f in frames] == list(range(60))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.adu, pixels(i))
    np.testing.assert_allclose([f.t_s for f in frames], INTERVAL_S * np.arange(60))
    assert frames[0].exposure_s == pytest.approx(0.004)
    assert source.info.identity == "Andor X-123"
    assert source.pixel_um == 0.11
    assert source.info.paced


def test_pages_that_tifffile_appends_are_followed_until_silence(tmp_path):
    path = tmp_path / "m.ome.tif"

    def write():
        with tifffile.TiffWriter(path) as writer:
            for i in range(20):
                writer.write(pixels(i), contiguous=False, metadata=None)
                time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    source, items = play(path, interval_s=0.02, end_after_s=0.8)
    thread.join()
    frames = frames_of(items)
    assert [f.index for f in frames] == list(range(20))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.adu, pixels(i))
    np.testing.assert_allclose([f.t_s for f in frames], 0.02 * np.arange(20))
    assert source.pixel_um == 0.0


CAMERA = """
[camera]
model = "scmos"
gain_adu_per_e = 2.2
offset_adu = 100.0
var_e2 = 1.2

[optics]
sigma_um = 0.1

[wire]
enabled = false

[journal]
folder = '{folder}'
"""


def test_the_command_gives_what_a_replay_of_the_same_frames_gives(tmp_path, capsys):
    """From the files to the answer, while the files grow; the pixel size is Micro-Manager's."""
    options = {"scene": "demo", "seed": 3, "n_frames": 100}
    frames = frames_of(open_source("simulated", options).frames())
    np.save(tmp_path / "m.npy", np.stack([frame.adu for frame in frames]))
    config = tmp_path / "camera.toml"
    config.write_text(CAMERA.format(folder=tmp_path / "runs"), encoding="utf-8")

    def write():
        writer = MmStackWriter(tmp_path / "data", max_bytes=1 << 23)
        for i, frame in enumerate(frames):
            tags = {"ImageNumber": i, "ElapsedTime-ms": 20.0 * i, "PixelSizeUm": 0.1}
            writer.write(frame.adu, tags, (0, 0, i, 0))
            time.sleep(0.01)
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    assert main(["follow", str(tmp_path / "data"), "--config", str(config), "--json"]) == 0
    thread.join()
    followed = json.loads(capsys.readouterr().out)
    command = ["replay", str(tmp_path / "m.npy"), "--config", str(config), "--json"]
    assert main([*command, "--pixel-um", "0.1", "--frame-ms", "20"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert followed["frames"] == {"in": 100, "processed": 100, "shed": 0, "missing": 0}
    assert followed["final"]["D_um2_s"] == pytest.approx(replayed["final"]["D_um2_s"], rel=1e-6)
    assert followed["live"]["D_um2_s"] == pytest.approx(replayed["live"]["D_um2_s"], rel=1e-6)


def test_the_command_takes_a_channel_and_a_position_by_number_or_name():
    built = follow_config(Path("data"), axes={"channel": "GFP", "position": 1}, from_now=True)
    assert built.source.options == {
        "path": "data",
        "axes": {"channel": "GFP", "position": 1},
        "from": "now",
    }


# --- where to begin, what to take -----------------------------------------------------------------


def test_a_finished_data_set_is_read_to_its_end_without_hanging(tmp_path):
    write_stack(tmp_path)
    began = time.perf_counter()
    _, items = play(tmp_path)
    assert len(items) == 12  # and no event
    assert time.perf_counter() - began < 5.0


def test_the_first_file_may_be_named(tmp_path):
    write_stack(tmp_path, positions=2)
    _, items = play(tmp_path / "run_MMStack_Pos1.ome.tif")
    assert [int(f.adu[0, 0]) for f in frames_of(items)] == [
        int(pixels(2 * i + 1)[0, 0]) for i in range(12)
    ]


def test_a_long_silence_before_the_next_file_is_not_the_end(tmp_path):
    """Between two files all that are there are finished, if only for a moment."""
    (writer,) = write_stack(tmp_path, finish=False)
    with closing(datasets.DataSet(tmp_path)) as data:
        assert len(drain(data)) == 12
        time.sleep(datasets.GRACE_S + 0.05)
        writer._end_file()  # and the next is not begun yet
        assert data.next_image() is None
        assert data.finished
        assert not data.has_ended()
        tags = {"ImageNumber": 12, "ElapsedTime-ms": 60.0}
        writer.write(pixels(12), tags, (0, 0, 12, 0))
        assert len(drain(data)) == 1
        writer.finish()
        assert data.next_image() is None
        assert not data.has_ended()
        time.sleep(datasets.GRACE_S + 0.05)
        assert data.has_ended()


def test_from_now_passes_by_what_is_there(tmp_path):
    (writer,) = write_stack(tmp_path, finish=False)
    source = follow(tmp_path, **{"from": "now"})
    for i in range(12, 15):
        writer.write(pixels(i), {"ImageNumber": i, "ElapsedTime-ms": 5.0 * i}, (0, 0, i, 0))
    stream, got = source.frames(), []

    def write():
        time.sleep(0.3)
        for i in range(15, 25):
            writer.write(pixels(i), {"ImageNumber": i, "ElapsedTime-ms": 5.0 * i}, (0, 0, i, 0))
        writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    got = list(stream)
    thread.join()
    assert [f.index for f in frames_of(got)] == list(range(15, 25))
    assert frames_of(got)[0].t_s == 0.0


@pytest.mark.parametrize(
    "axes, first",
    [
        ({"channel": 1, "position": 0}, 1),
        ({"channel": "GFP", "position": "Pos0"}, 1),
        ({"channel": "Cy5", "position": 1}, 2),
    ],
)
def test_a_choice_of_channel_and_position_takes_only_those(tmp_path, axes, first):
    write_stack(tmp_path, positions=2, channels=2)
    _, items = play(tmp_path, axes=axes)
    frames = frames_of(items)
    assert items == frames  # the images passed by are no gaps
    assert [f.index for f in frames] == list(range(12))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.adu, pixels(4 * i + first))


def test_two_channels_need_a_choice(tmp_path):
    write_stack(tmp_path, channels=2)
    with pytest.raises(SourceError, match=r"channel 0, 1; choose one, as axes = \{channel = 0\}"):
        follow(tmp_path)
    with pytest.raises(
        SourceError, match=r"no axis 'colour' \(known: time, channel, z, position\)"
    ):
        follow(tmp_path, axes={"colour": 1})
    with pytest.raises(SourceError, match=r"no image with axes = \{'channel': 'DAPI'\}"):
        follow(tmp_path, axes={"channel": "DAPI"}, wait_s=0.1)


def test_another_position_in_mid_stream_ends_it_in_words(tmp_path):
    first, second = write_stack(tmp_path, 0, positions=2, finish=False)
    for i in range(12):
        tags = {"ImageNumber": i, "ElapsedTime-ms": 5.0 * i}
        first.write(pixels(i), tags, (0, 0, i, 0))
    stream = follow(tmp_path, end_after_s=10.0).frames()
    got = [next(stream) for _ in range(12)]
    second.write(pixels(0), {"ImageNumber": 0, "ElapsedTime-ms": 90.0}, (0, 0, 0, 1))
    with pytest.raises(SourceError, match="position 0, 1"):
        got += list(stream)
    assert [f.index for f in frames_of(got)] == list(range(12))
    first.finish()
    second.finish()


# --- time and numbers -----------------------------------------------------------------------------


def test_holes_and_new_sequences_of_the_cameras_numbers_are_told(tmp_path):
    writer = MmStackWriter(tmp_path)
    numbers = [0, 1, 2, 5, 6, 0, 1]  # 3 and 4 never came; then the camera was started once more
    for i, number in enumerate(numbers):
        stamp = {"UserData": {"TimeReceivedByCore": {"type": "STRING", "scalar": time_at(i)}}}
        writer.write(pixels(i), {"ImageNumber": number, **stamp}, (0, 0, i, 0))
    writer.finish()
    source, items = play(tmp_path)
    (missing,) = (item for item in items if isinstance(item, Event))
    assert (missing.kind, missing.frame, missing.n_frames) == ("missing", 3, 2)
    assert [f.index for f in frames_of(items)] == [0, 1, 2, 5, 6, 7, 8]
    assert source.info.interval_s == pytest.approx(0.02)


def time_at(i):
    return f"2026-11-22 10:00:00.{20 * i:03d}000"


def test_images_without_times_need_an_interval(tmp_path):
    writer = MmStackWriter(tmp_path, summary={"Interval_ms": 30.0})
    other = MmStackWriter(tmp_path / "none")
    for i in range(4):
        writer.write(pixels(i), {"ElapsedTime-ms": 7.0})
        other.write(pixels(i), {"ElapsedTime-ms": 7.0})
    writer.finish()
    other.finish()
    with pytest.raises(SourceError, match="give interval_s"):
        follow(tmp_path / "none")
    _, items = play(tmp_path / "none", interval_s=0.5)
    assert [f.t_s for f in frames_of(items)] == [0.0, 0.5, 1.0, 1.5]
    source = follow(tmp_path)
    source.close()
    assert source.info.interval_s == pytest.approx(0.03)
    with pytest.raises(SourceError, match=r"exposure_s 2 is longer than the 0.5 s interval"):
        follow(tmp_path / "none", interval_s=0.5, exposure_s=2.0)


def test_a_backlog_is_played_no_faster_than_twice_the_cameras_rate(tmp_path):
    """So that the ring need not shed it; a source that is not paced has no ring and no limit."""
    write_stack(tmp_path, 200, n_index=4)
    took_s = {}
    for paced in (True, False):
        source = follow(tmp_path, paced=paced)
        assert source.info.paced == paced
        stream, began_s = source.frames(), time.perf_counter()
        got = [next(stream) for _ in range(200)]
        took_s[paced] = time.perf_counter() - began_s
        source.close()
        assert [f.index for f in got] == list(range(200))
    # 64 of them may come at once, the other 136 at 400 a second
    assert took_s[True] > 135 * INTERVAL_S / 2
    assert took_s[False] < took_s[True]


# --- what goes wrong ------------------------------------------------------------------------------


def test_nothing_there_in_time_is_said(tmp_path):
    with pytest.raises(SourceError, match=r"no such file or folder in 0.1 s \(wait_s\)"):
        follow(tmp_path / "later", wait_s=0.1)
    with pytest.raises(SourceError, match=r"no image in 0.1 s"):
        follow(tmp_path, wait_s=0.1)
    with pytest.raises(ConfigError, match=r"unknown key .*fro.* did you mean 'from'"):
        follow(tmp_path, fro="now")


def lose(path):
    path.unlink()


def replace(path):
    content = path.read_bytes()
    path.rename(path.with_name("aside"))
    path.write_bytes(content)


def cut(path):
    with path.open("rb+") as file:
        file.truncate(600)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open as it is")
@pytest.mark.parametrize(
    "harm, said", [(lose, "deleted"), (replace, "replaced"), (cut, "cut short")]
)
def test_a_file_that_is_taken_away_ends_the_stream_in_words(tmp_path, harm, said):
    (writer,) = write_stack(tmp_path, finish=False, max_bytes=1 << 15)
    stream = follow(tmp_path).frames()
    got = [next(stream) for _ in range(12)]
    harm(tmp_path / "run_MMStack_Pos0.ome.tif")
    with pytest.raises(SourceError, match=f"{said} while it was followed"):
        for item in stream:
            got.append(item)
    assert len(frames_of(got)) == 12
    assert kinds(got)[-1] == "failed"
    writer.file.close()


def test_a_writer_that_dies_ends_the_stream_after_the_silence_asked_for(tmp_path):
    (writer,) = write_stack(tmp_path, finish=False)
    began = time.perf_counter()
    _, items = play(tmp_path, end_after_s=0.8)
    assert 0.8 <= time.perf_counter() - began < 5.0
    assert len(frames_of(items)) == 12
    assert kinds(items) == ["stalled"]
    writer.file.close()


def test_silence_before_the_stream_begins_does_not_count(tmp_path):
    """Kernels are compiled, perhaps for minutes, between opening and the first frame asked for."""
    (writer,) = write_stack(tmp_path, finish=False)
    source = follow(tmp_path, end_after_s=0.6)
    time.sleep(0.7)
    stream = source.frames()
    got = [next(stream) for _ in range(12)]
    tags = {"ImageNumber": 12, "ElapsedTime-ms": 60.0}
    writer.write(pixels(12), tags, (0, 0, 12, 0))
    writer.finish()
    assert len(frames_of([*got, *stream])) == 13


def test_another_shape_in_mid_stream_is_an_event(tmp_path):
    (writer,) = write_stack(tmp_path, finish=False)
    tags = {"ImageNumber": 12, "ElapsedTime-ms": 60.0}
    writer.write(pixels(0, (4, 4)), tags, (0, 0, 12, 0))
    writer.finish()
    _, items = play(tmp_path)
    assert len(frames_of(items)) == 12
    assert kinds(items) == ["shape"]


def test_closing_ends_a_stream_that_waits(tmp_path):
    (writer,) = write_stack(tmp_path, finish=False)
    source = BufferedSource(follow(tmp_path), 20)
    threading.Timer(0.3, source.close).start()
    assert len(frames_of(source.frames())) == 12
    assert not source._thread.is_alive()
    writer.file.close()
