"""Replay: every format gives the same frames, at the right times and the right pace."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tifffile

from livespt.config import ConfigError
from livespt.sources import BufferedSource, SourceError, open_source
from livespt.sources.replay import open_movie
from livespt.types import Event, Frame

pytestmark = pytest.mark.alone

INTERVAL_S = 0.02


def movie(n=20, height=16, width=24, dtype=np.uint16):
    values = np.random.default_rng(3).integers(0, 255, (n, height, width))
    return values.astype(dtype)


def write_npy(path, stack):
    np.save(path, stack)


def write_npz(path, stack):
    np.savez(path, other=np.zeros(3), frames=stack)


def write_npz_odd_name(path, stack):
    np.savez_compressed(path, stack=stack, dark=np.zeros((4, 4)))


def write_tiff(path, stack):
    tifffile.imwrite(path, stack)


def write_tiff_big_endian(path, stack):
    tifffile.imwrite(path, stack, byteorder=">")


def write_tiff_zlib(path, stack):
    tifffile.imwrite(path, stack, compression="zlib")


def write_tiff_pages(path, stack):
    with tifffile.TiffWriter(path) as writer:
        for frame in stack:
            writer.write(frame, contiguous=False, metadata=None)


def write_bigtiff_pages(path, stack):
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for frame in stack:
            writer.write(frame, contiguous=False, metadata=None)


def write_imagej(path, stack):
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TYX"})


def write_ome(path, stack):
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "TYX"})


def write_ndtiff(path, stack, tags=lambda i: {}):
    from ndstorage import NDTiffDataset

    data = NDTiffDataset(str(path), name="run", writable=True)
    data.initialize({})
    for i, frame in enumerate(stack):
        data.put_image({"time": i}, frame, tags(i))
    data.finish()
    data.close()
    return path / "run_1"


WRITERS = {
    "npy": (write_npy, ".npy"),
    "npz": (write_npz, ".npz"),
    "npz, odd name": (write_npz_odd_name, ".npz"),
    "tiff": (write_tiff, ".tif"),
    "tiff, big-endian": (write_tiff_big_endian, ".tif"),
    "tiff, zlib": (write_tiff_zlib, ".tiff"),
    "tiff, page by page": (write_tiff_pages, ".tif"),
    "bigtiff, page by page": (write_bigtiff_pages, ".tif"),
    "imagej": (write_imagej, ".TIF"),
    "ome": (write_ome, ".ome.tif"),
}


def replay(path, **options):
    options = {"path": str(path), "interval_s": INTERVAL_S, **options}
    return open_source("replay", options)


def play(path, **options):
    source = replay(path, **options)
    items = list(source.frames())
    source.close()
    return items


@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_every_frame_as_written(tmp_path, form, dtype):
    write, suffix = WRITERS[form]
    stack = movie(dtype=dtype)
    path = tmp_path / f"movie{suffix}"
    write(path, stack)
    source = replay(path)
    assert source.info.shape == stack.shape[1:]
    assert source.info.n_frames == len(stack)
    assert source.info.interval_s == source.info.exposure_s == INTERVAL_S
    items = list(source.frames())
    source.close()
    assert [item.index for item in items] == list(range(len(stack)))
    np.testing.assert_allclose([f.t_s for f in items], np.arange(len(stack)) * INTERVAL_S)
    for item, expected in zip(items, stack, strict=True):
        assert item.adu.dtype == np.dtype("=u2")
        assert not item.adu.flags.writeable
        assert item.arrived_s > 0
        np.testing.assert_array_equal(item.adu, expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # ndstorage's writer leaves its file open
def test_ndtiff_keeps_the_cameras_numbers_and_times(tmp_path):
    stack = movie(12)

    def tags(i):
        number = i + (i > 5)  # the camera's frame 6 was never saved
        return {"ImageNumber": str(number), "ElapsedTime-ms": 20.0 * number, "Exposure-ms": 15.0}

    items = play(write_ndtiff(tmp_path, stack, tags), interval_s=None)
    (missing,) = (item for item in items if isinstance(item, Event))
    frames = [item for item in items if isinstance(item, Frame)]
    assert (missing.kind, missing.frame, missing.n_frames) == ("missing", 6, 1)
    assert items.index(missing) == 6
    assert [f.index for f in frames] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    np.testing.assert_allclose([f.t_s for f in frames], 0.02 * np.array([f.index for f in frames]))
    assert frames[0].exposure_s == pytest.approx(0.015)
    np.testing.assert_array_equal(np.stack([f.adu for f in frames]), stack)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ndtiff_without_times_needs_an_interval(tmp_path):
    path = write_ndtiff(tmp_path, movie(3))
    assert len(play(path)) == 3
    with pytest.raises(SourceError, match="give interval_s"):
        replay(path, interval_s=None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_opening_an_ndtiff_prints_nothing(tmp_path, capfd):
    path = write_ndtiff(tmp_path, movie(3))
    capfd.readouterr()
    play(path)
    assert capfd.readouterr() == ("", "")


def test_ome_times_are_the_frames_times(tmp_path):
    delta_ms = np.array([0.0, 20.0, 40.0, 90.0, 110.0])
    metadata = {
        "axes": "TYX",
        "Plane": {
            "DeltaT": delta_ms.tolist(),
            "DeltaTUnit": ["ms"] * 5,
            "ExposureTime": [10.0] * 5,
            "ExposureTimeUnit": ["ms"] * 5,
        },
    }
    tifffile.imwrite(tmp_path / "m.ome.tif", movie(5), ome=True, metadata=metadata)
    source = replay(tmp_path / "m.ome.tif", interval_s=None)
    assert source.info.interval_s == pytest.approx(0.02)
    assert source.info.exposure_s == pytest.approx(0.01)
    np.testing.assert_allclose([f.t_s for f in source.frames()], delta_ms * 1e-3)
    by_index = play(tmp_path / "m.ome.tif", times="interval", interval_s=0.5)
    assert [f.t_s for f in by_index] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_ome_increment_and_imagej_interval_are_read(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        movie(4),
        ome=True,
        metadata={"axes": "TYX", "TimeIncrement": 5.0, "TimeIncrementUnit": "ms"},
    )
    tifffile.imwrite(
        tmp_path / "b.tif", movie(4), imagej=True, metadata={"axes": "TYX", "finterval": 0.005}
    )
    for name in ("a.ome.tif", "b.tif"):
        assert replay(tmp_path / name, interval_s=None).info.interval_s == pytest.approx(0.005)


def test_start_and_stop_keep_the_movies_own_numbers(tmp_path):
    write_npy(tmp_path / "m.npy", movie())
    items = play(tmp_path / "m.npy", start=5, stop=8)
    assert [(f.index, round(f.t_s, 6)) for f in items] == [(5, 0.1), (6, 0.12), (7, 0.14)]


def test_a_key_chooses_among_arrays(tmp_path):
    a, b = movie(3), movie(4)
    np.savez(tmp_path / "m.npz", a=a, b=b)
    assert len(play(tmp_path / "m.npz", key="b")) == 4
    with pytest.raises(SourceError, match="3-D arrays: a, b"):
        play(tmp_path / "m.npz")
    with pytest.raises(SourceError, match="no array 'c'"):
        play(tmp_path / "m.npz", key="c")


@pytest.mark.parametrize("options, span_s", [({"paced": True}, 0.19), ({"fps": 50.0}, 0.38)])
def test_a_paced_replay_takes_its_time_and_loses_nothing(tmp_path, options, span_s):
    write_npy(tmp_path / "m.npy", movie(20))
    source = BufferedSource(replay(tmp_path / "m.npy", interval_s=0.01, **options), 4)
    assert source.info.paced
    items = list(source.frames())
    took_s = items[-1].arrived_s - items[0].arrived_s
    # The last frame is due at span_s; the host may be late, by much on a busy machine.
    assert span_s - 5e-3 <= took_s < span_s + 0.5
    assert [f.index for f in items] == list(range(20))
    assert items[-1].t_s == pytest.approx(0.19)  # playing slower does not slow the molecules


def test_an_unpaced_replay_waits_for_nobody(tmp_path):
    write_npy(tmp_path / "m.npy", movie(20))
    source = replay(tmp_path / "m.npy", interval_s=10.0)
    assert not source.info.paced
    began = time.perf_counter()
    assert len(list(source.frames())) == 20
    assert time.perf_counter() - began < 2.0


def test_closing_ends_a_paced_replay(tmp_path):
    write_npy(tmp_path / "m.npy", movie(20))
    source = BufferedSource(replay(tmp_path / "m.npy", interval_s=100.0, paced=True), 4)
    stream = source.frames()
    assert next(stream).index == 0
    source.close()
    assert list(stream) == []


def test_a_large_movie_is_mapped_not_loaded(tmp_path):
    shape = (2000, 512, 512)  # 1 GiB, sparse on disk
    path = tmp_path / "big.npy"
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)
    mapped[1999, 0, 0] = 77
    del mapped
    (frame,) = play(path, start=1999)
    assert frame.adu[0, 0] == 77
    assert isinstance(open_movie(path).read(0), np.memmap)


def test_the_real_movie_replays(shared_data):
    items = play(shared_data / "real-pmhc-af647.npz")
    assert len(items) == 10
    assert items[0].adu.shape == (128, 128)
    assert len(play(shared_data / "smlm-challenge-tubulins-frame20.tif")) == 1


def test_unknown_options_are_refused_by_name(tmp_path):
    write_npy(tmp_path / "m.npy", movie())
    with pytest.raises(ConfigError, match=r"unknown key .*intervals.*did you mean 'interval_s'"):
        replay(tmp_path / "m.npy", intervals=3)
