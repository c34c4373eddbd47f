"""Raw files hold every frame as it came, in parts, and are good TIFFs at every moment."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from livespt.raw import RawError, RawWriter, Saver
from livespt.raw.pages import Page, PageForm
from livespt.sources.follow import open_source as open_follow
from livespt.sources.replay import open_movie
from livespt.sources.replay import open_source as open_replay
from livespt.types import Event, Frame, SourceInfo

#: Below and above the size from which pages are written past the system's cache; odd on purpose.
SHAPES = [(21, 33), (257, 301)]
INTERVAL_S = 0.01


def frame(i, shape, index=None):
    """Return frame `i`: no two are alike, numbers begin at 7, times are no round numbers."""
    adu = np.random.default_rng([3, i]).integers(0, 65536, shape).astype(np.uint16)
    t_s, exposure_s = i * INTERVAL_S + 1 / 3, 0.005 + 1e-6 * i
    return Frame(7 + i if index is None else index, t_s, adu, exposure_s, 1.0 + 0.1 * i)


def writer_in(folder, shape, n_per_part=1000, keep_free_gb=0.0):
    info = SourceInfo("a <camera>", shape, INTERVAL_S, 0.005, None, True, "A 1")
    form = PageForm(shape, 0.1)
    part_gb = (form.rounded(800) + (n_per_part + 0.5) * form.n_bytes) / 1e9
    return RawWriter(folder, info, 0.1, part_gb, keep_free_gb)


def save(folder, frames, shape, **options):
    """Save all frames; return the saver, whose files are ended."""
    saver = Saver(writer_in(folder, shape, **options), 16, waits=True)
    told = [event for one in frames for event in saver.take(one)]
    assert [*told, *saver.end()] == []
    return saver


def same(got, sent):
    """Tell whether two frames are the same, bit for bit."""
    facts = [(f.index, f.t_s, f.exposure_s, f.excitation) for f in (got, sent)]
    return facts[0] == facts[1] and np.array_equal(got.adu, sent.adu)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_per_part", [1, 4, 1000])
def test_frames_come_back_bit_for_bit_from_all_parts(tmp_path, shape, n_per_part):
    sent = [frame(i, shape) for i in range(9)]
    saver = save(tmp_path, sent, shape, n_per_part=n_per_part)
    assert saver.writer.n_parts == len(list(tmp_path.iterdir())) == -(-9 // n_per_part)
    replay = open_replay({"path": str(saver.writer.path)})
    got = [item for item in replay.frames() if isinstance(item, Frame)]
    assert len(got) == 9
    assert all(same(a, b) for a, b in zip(got, sent, strict=True))
    assert replay.info.interval_s == INTERVAL_S


def test_a_hole_in_the_cameras_numbers_is_a_hole_in_the_file(tmp_path):
    sent = [frame(i, SHAPES[0], index=i) for i in (0, 1, 5)]
    saver = save(tmp_path, sent, SHAPES[0])
    items = list(open_replay({"path": str(saver.writer.path)}).frames())
    (missing,) = [item for item in items if isinstance(item, Event)]
    assert (missing.kind, missing.frame, missing.n_frames) == ("missing", 2, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_other_programs_read_all_parts_as_one_ome_tiff(tmp_path, shape):
    sent = [frame(i, shape) for i in range(7)]
    save(tmp_path, sent, shape, n_per_part=3)
    with tifffile.TiffFile(tmp_path / "raw.ome.tif") as tif:
        (series,) = tif.series
        assert (series.axes, series.shape) == ("TYX", (7, *shape))
        assert np.array_equal(tif.asarray(), np.stack([f.adu for f in sent]))
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["TimeIncrement"]) == (0.1, INTERVAL_S)
    assert [p["DeltaT"] for p in pixels["Plane"]] == [f.t_s for f in sent]
    assert [p["ExposureTime"] for p in pixels["Plane"]] == [f.exposure_s for f in sent]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_is_good_while_it_is_written(tmp_path, shape):
    """After each call all that was given is there, for us and for any reader of TIFF."""
    writer = writer_in(tmp_path, shape, n_per_part=5)
    blocks = writer.form.blocks(2)
    for i in range(8):
        sent = [frame(2 * i + k, shape) for k in range(2)]
        pages = []
        for one, block in zip(sent, blocks, strict=True):
            writer.form.pixels(block)[:] = one.adu
            pages.append(Page(one, block))
        writer.write(pages)
        movie = open_movie(writer.path)
        assert (movie.n_frames, movie.torn) == (2 * i + 2, "")
        assert np.array_equal(movie.read(2 * i + 1), sent[1].adu)
        movie.close()
        with tifffile.TiffFile(tmp_path / "raw.ome.tif") as tif:
            assert len(tif.pages) == min(2 * i + 2, 5)
    writer.finish()


@pytest.mark.parametrize("n_bytes", [0, 10, 4096])
def test_a_part_that_was_only_begun_is_no_damage(tmp_path, n_bytes):
    save(tmp_path, [frame(i, SHAPES[1]) for i in range(3)], SHAPES[1], n_per_part=2)
    with (tmp_path / "raw_1.ome.tif").open("rb+") as file:
        file.truncate(n_bytes)
    movie = open_movie(tmp_path / "raw.ome.tif")
    assert (movie.n_frames, movie.torn) == (2, "")


def test_a_page_that_was_linked_to_and_lost_is_told(tmp_path):
    """As a power cut may leave it."""
    saver = save(tmp_path, [frame(i, SHAPES[1]) for i in range(3)], SHAPES[1])
    with saver.writer.path.open("rb+") as file:
        file.truncate(4096 + 3 * saver.writer.form.n_bytes - 5000)
    movie = open_movie(saver.writer.path)
    assert (movie.n_frames, movie.torn[:9]) == (2, "cut short")


def test_a_file_that_grows_is_followed_to_its_end_and_no_further(tmp_path):
    """The end is told by the file: `end_after_s` is longer than the test may take."""
    shape, sent = SHAPES[1], [frame(i, SHAPES[1]) for i in range(20)]
    saver = Saver(writer_in(tmp_path, shape, n_per_part=6), 16, waits=True)
    for one in sent[:12]:
        saver.take(one)
    source = open_follow({"path": str(tmp_path), "end_after_s": 300.0, "paced": False})
    got = []
    for item in source.frames():
        if isinstance(item, Frame):
            got.append(item)
            if len(got) == 5:
                for one in sent[12:]:
                    saver.take(one)
                saver.end()
    assert len(got) == 20
    assert all(np.array_equal(a.adu, b.adu) for a, b in zip(got, sent, strict=True))
    # from times in ms and from the first frame on
    np.testing.assert_allclose(
        [f.t_s for f in got], [f.t_s - sent[0].t_s for f in sent], rtol=0, atol=1e-12
    )


def test_what_a_full_queue_leaves_out_is_counted_and_told(tmp_path):
    """200 frames at once through four places; what is saved is what was sent."""
    sent = [frame(i, SHAPES[0]) for i in range(200)]
    saver = Saver(writer_in(tmp_path, SHAPES[0]), 4)
    told = [event for one in sent for event in saver.take(one)] + saver.end()
    now = saver.standing
    assert now.n_saved + now.n_unsaved == 200
    assert now.n_unsaved > 0
    assert {event.kind for event in told} == {"unsaved"}
    assert sum(event.n_frames for event in told) == now.n_unsaved
    assert "slower than the camera" in told[0].message
    movie = open_movie(saver.writer.path)
    assert movie.n_frames == now.n_saved
    assert movie.index is not None
    assert all(np.array_equal(movie.read(k), sent[i - 7].adu) for k, i in enumerate(movie.index))


def test_a_frame_of_another_shape_is_not_saved(tmp_path):
    saver = Saver(writer_in(tmp_path, SHAPES[0]), 4, waits=True)
    saver.take(frame(0, SHAPES[0]))
    (event,) = saver.take(frame(1, (5, 5)))
    assert (event.kind, event.frame, event.n_frames) == ("unsaved", 8, 1)
    saver.end()
    assert saver.standing[:2] == (1, 1)


def test_saving_ends_before_the_disk_is_full(tmp_path):
    """No disk has the room that is to stay free here."""
    saver = Saver(writer_in(tmp_path, SHAPES[0], keep_free_gb=1e9), 4, waits=True)
    told = [event for i in range(5) for event in saver.take(frame(i, SHAPES[0]))] + saver.end()
    assert "kept free" in saver.standing.trouble
    assert sum(event.n_frames for event in told) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_frame_too_large_for_a_tiff_is_refused(tmp_path):
    with pytest.raises(RawError, match=r"raw\.save: a frame of 50000 x 50000"):
        PageForm((50000, 50000), 0.1)
