"""A growing data set: every image once, in order and whole, wherever the writer stands."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from livespt.sources import SourceError
from livespt.sources.datasets import DataSet, GrowingIndex
from livespt.sources.growing import GrowingTiff

sys.path.insert(0, str(Path(__file__).parents[1]))  # growing_scene.py

from growing_scene import MmStackWriter, Torn, drain, pixels

N = 4


def write_mm(path):
    writer = MmStackWriter(path.parent, path.name.removesuffix(".ome.tif"), {"Interval_ms": 10})
    for i in range(N):
        writer.write(pixels(i), {"ImageNumber": i}, (0, 0, i, 0))
    writer.finish()


def write_pages(path, **options):
    with tifffile.TiffWriter(path, **options) as writer:
        for i in range(N):
            writer.write(pixels(i), contiguous=False, metadata=None)


def write_big(path):
    write_pages(path, bigtiff=True)


def write_big_endian(path):
    write_pages(path, byteorder=">")


def write_strips(path):
    with tifffile.TiffWriter(path) as writer:
        for i in range(N):
            writer.write(pixels(i), contiguous=False, metadata=None, rowsperstrip=2)


def write_ndtiff(folder, tags=lambda i: {"Axes": {"time": i}}, name="run"):
    from ndstorage import NDTiffDataset

    data = NDTiffDataset(str(folder), name=name, writable=True)
    data.initialize({"PixelSize_um": 0.1})
    for i in range(N):
        data.put_image({"time": i}, pixels(i), tags(i))
    data.finish()
    data.close()
    return folder / f"{name}_1"


FORMS = {
    "Micro-Manager": (write_mm, False),
    "Micro-Manager, full size": (write_mm, True),
    "pages": (write_pages, False),
    "bigtiff": (write_big, False),
    "big-endian": (write_big_endian, False),
    "many strips": (write_strips, False),
}


def assert_movie(found):
    assert len(found) == N
    for i, (_, adu) in enumerate(found):
        assert adu.dtype == np.uint16
        np.testing.assert_array_equal(adu, pixels(i))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_at_any_byte_is_followed_to_its_end(tmp_path, form):
    """Every byte of a file of full size is tried as the place where the writer stands."""
    write, full_size = FORMS[form]
    write(tmp_path / "whole_MMStack.ome.tif")
    target = tmp_path / "torn_MMStack.ome.tif"
    torn = Torn(tmp_path / "whole_MMStack.ome.tif", target, full_size)
    for cut in range(0, len(torn.content), 1 if FORMS[form][1] else 3):
        target.unlink(missing_ok=True)
        torn.write_to(cut)
        data = DataSet(target)
        found = drain(data)
        torn.write_to(len(torn.content))
        found += drain(data)
        data.close()
        assert_movie(found)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_written_in_random_pieces_is_followed(tmp_path, form):
    write, full_size = FORMS[form]
    write(tmp_path / "whole_MMStack.ome.tif")
    rng = np.random.default_rng(5)
    target = tmp_path / "torn_MMStack.ome.tif"
    torn = Torn(tmp_path / "whole_MMStack.ome.tif", target, full_size)
    for _ in range(20):
        target.unlink(missing_ok=True)
        torn.write_to(0)
        data, found = DataSet(target), []
        for cut in sorted(rng.integers(0, len(torn.content), 30)):
            torn.write_to(int(cut))
            found += drain(data)
        torn.write_to(len(torn.content))
        found += drain(data)
        data.close()
        assert_movie(found)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # ndstorage's writer leaves its file open
@pytest.mark.parametrize("full_size", [True, False])
@pytest.mark.parametrize("axes", ["in the metadata", "in the index"])
def test_data_and_index_cut_anywhere_and_apart_are_followed(tmp_path, axes, full_size):
    """The index may be ahead of the data or behind; either may be full of zeros at its end."""
    tags = (lambda i: {"Axes": {"time": i}}) if axes == "in the metadata" else (lambda i: {})
    whole = write_ndtiff(tmp_path, tags)
    rng = np.random.default_rng(6)
    for k in range(8):
        folder = tmp_path / f"torn{k}"
        folder.mkdir()
        names = ("run_NDTiffStack.tif", "NDTiff.index")
        parts = [Torn(whole / name, folder / name, full_size) for name in names]
        ahead = [np.sort(rng.integers(0, len(part.content), 40)) for part in parts]
        for part in parts:
            part.write_to(0)
        data, found = DataSet(folder), []
        for step in range(40):
            for part, cuts in zip(parts, ahead, strict=True):
                part.write_to(int(cuts[step]))
                found += drain(data)
        for part in parts:
            part.write_to(len(part.content))
        found += drain(data)
        assert data.finished
        assert data.summary == {"PixelSize_um": 0.1}
        data.close()
        assert_movie(found)
        assert [image.axes for image, _ in found] == [{"time": i} for i in range(N)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_index_cut_at_any_byte_gives_whole_records_only(tmp_path):
    whole = write_ndtiff(tmp_path)
    content = (whole / "NDTiff.index").read_bytes()
    file = GrowingTiff(whole / "run_NDTiffStack.tif")
    places = [file.next_page().strips[0][0] for _ in range(N)]
    file.close()
    record = len(content) // N
    for cut in range(0, len(content), 5):
        for room in (0, 100):
            path = tmp_path / "torn.index"
            path.write_bytes(content[:cut] + bytes(room))
            index = GrowingIndex(path)
            found = [index.find("run_NDTiffStack.tif", place) for place in places]
            n = sum(axes is not None for axes in found)
            assert found[:n] == [{"time": i} for i in range(n)]
            assert found[n:] == [None] * (N - n)
            # the last number of a record is zero, written or not
            assert n in (cut // record, (cut + 8) // record)
            path.write_bytes(content)
            rest = [index.find("run_NDTiffStack.tif", place) for place in places[n:]]
            assert rest == [{"time": i} for i in range(n, N)]


def test_the_tests_own_writer_makes_what_others_take_for_micro_managers(tmp_path):
    write_mm(tmp_path / "run_MMStack.ome.tif")
    with tifffile.TiffFile(tmp_path / "run_MMStack.ome.tif") as tif:
        assert tif.is_micromanager
        assert tif.micromanager_metadata["Summary"] == {"Interval_ms": 10}
        assert [page.tags[51123].value["ImageNumber"] for page in tif.pages] == list(range(N))
        for i, page in enumerate(tif.pages):
            np.testing.assert_array_equal(page.asarray(), pixels(i))


def test_a_series_goes_on_in_the_next_file(tmp_path):
    writer = MmStackWriter(tmp_path, max_bytes=2500)
    data, found = DataSet(tmp_path), []
    for i in range(20):
        writer.write(pixels(i), {"ImageNumber": i}, (0, 0, i, 0))
        data._looked_s = -1.0  # look at once
        found += drain(data)
        assert len(found) == i + 1
        assert not data.finished
    writer.finish()
    assert writer.n_files > 3
    assert drain(data) == []
    assert data.finished
    data.close()
    for i, (_, adu) in enumerate(found):
        np.testing.assert_array_equal(adu, pixels(i))


def test_a_finished_file_is_not_the_end_while_the_next_is_there(tmp_path):
    writer = MmStackWriter(tmp_path, max_bytes=2500)
    while writer.n_files < 2:
        writer.write(pixels(0), {})
    (tmp_path / "run_MMStack_Pos0_1.ome.tif").rename(tmp_path / "later")
    data = DataSet(tmp_path)
    n = len(drain(data))
    assert data.finished
    (tmp_path / "later").rename(tmp_path / "run_MMStack_Pos0_1.ome.tif")
    assert not data.finished
    assert n > 1
    assert len(drain(data)) == 1
    writer.finish()
    data.close()


def test_images_that_fill_an_aborted_acquisition_are_none(tmp_path):
    writer = MmStackWriter(tmp_path)
    writer.write(pixels(0), {})
    writer.write_blank()
    writer.write(pixels(1), {})
    writer.write_blank()
    writer.finish()
    data = DataSet(tmp_path)
    found = drain(data)
    assert len(found) == 2
    np.testing.assert_array_equal(found[1][1], pixels(1))
    assert data.finished
    data.close()


def test_positions_side_by_side_are_all_followed(tmp_path):
    names = ("run_MMStack_1-Pos_000_001", "run_MMStack_1-Pos_000_002")
    writers = [MmStackWriter(tmp_path, name, max_bytes=2500) for name in names]
    for i in range(10):
        for position, writer in enumerate(writers):
            writer.write(pixels(i), {}, (0, 0, i, position))
    for writer in writers:
        writer.finish()
    assert writers[0].n_files > 1
    data = DataSet(tmp_path)
    found = [(image.axes["position"], image.axes["time"]) for image, _ in drain(data)]
    data.close()
    for position in (0, 1):
        assert [t for p, t in found if p == position] == list(range(10))


def test_the_pixels_of_a_file_that_was_left_can_still_be_read(tmp_path):
    writer = MmStackWriter(tmp_path, max_bytes=2500)
    for i in range(20):
        writer.write(pixels(i), {})
    writer.finish()
    data, images = DataSet(tmp_path), []
    while (image := data.next_image()) is not None:
        images.append(image)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image.file.read(image.page), pixels(i))
    data.close()


def eight_bits(path):
    tifffile.imwrite(path, pixels(0, dtype=np.uint8), metadata=None)


def test_eight_bits_become_sixteen(tmp_path):
    eight_bits(tmp_path / "m.tif")
    data = DataSet(tmp_path / "m.tif")
    ((_, adu),) = drain(data)
    data.close()
    assert adu.dtype == np.uint16
    np.testing.assert_array_equal(adu, pixels(0))


def packed(path):
    """Write pages and call them 12 bits, which no package here writes."""
    write_pages(path)
    content = bytearray(path.read_bytes())
    where = content.find(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10\x00")
    content[where + 8] = 12
    path.write_bytes(content)


WRONG = {
    "packed": (packed, "packed pixels of 12 bits, expected unsigned counts of 8 or 16"),
    "rgb": (
        lambda p: tifffile.imwrite(p, np.zeros((6, 5, 3), np.uint8), photometric="rgb"),
        "3 components of pixels of 8 bits",
    ),
    "float": (lambda p: tifffile.imwrite(p, np.zeros((6, 5), np.float32)), "pixels of 32 bits"),
    "half": (lambda p: tifffile.imwrite(p, np.zeros((6, 5), np.float16)), "floating-point"),
    "signed": (lambda p: tifffile.imwrite(p, np.zeros((6, 5), np.int16)), "signed pixels of 16"),
    "compressed": (lambda p: tifffile.imwrite(p, pixels(0), compression="zlib"), "compressed"),
    "tiles": (lambda p: tifffile.imwrite(p, np.zeros((32, 32), "u2"), tile=(16, 16)), "in tiles"),
    "no TIFF": (lambda p: p.write_bytes(b"not at all a TIFF, however long"), "not a TIFF"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_plain_counts_is_refused_in_one_line(tmp_path, what):
    write, said = WRONG[what]
    write(tmp_path / "m.tif")
    data = DataSet(tmp_path / "m.tif")
    with pytest.raises(SourceError, match=said) as error:
        drain(data)
    data.close()
    assert str(tmp_path / "m.tif") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_index_is_refused(tmp_path):
    path = tmp_path / "NDTiff.index"
    path.write_bytes(b"\xff" * 200)
    with pytest.raises(SourceError, match="damaged at byte 0"):
        GrowingIndex(path).find("run_NDTiffStack.tif", 100)
