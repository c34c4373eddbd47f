"""Bad movies: one line that names the file, after every frame that was good."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from livespt.sources import BufferedSource, SourceError, open_source
from livespt.types import Event, Frame

N, HEIGHT, WIDTH = 20, 32, 40


def stack(n=N, dtype=np.uint16):
    return np.random.default_rng(5).integers(0, 200, (n, HEIGHT, WIDTH)).astype(dtype)


def replay(path, **options):
    return open_source("replay", {"path": str(path), "interval_s": 0.02, **options})


def refusal(path, **options) -> str:
    with pytest.raises(SourceError) as caught:
        replay(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def play(source):
    """Return (frames, events, error message)."""
    frames, events = [], []
    try:
        for item in source.frames():
            (frames if isinstance(item, Frame) else events).append(item)
    except SourceError as error:
        return frames, events, str(error)
    finally:
        source.close()
    return frames, events, ""


def cut(path, fraction=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def write_shaped(path):
    tifffile.imwrite(path, stack())


def write_imagej(path):
    tifffile.imwrite(path, stack(), imagej=True)


def write_pages(path):
    with tifffile.TiffWriter(path) as writer:
        for frame in stack():
            writer.write(frame, contiguous=False, metadata=None)


def write_zlib(path):
    tifffile.imwrite(path, stack(), compression="zlib")


def write_ome_pages(path):
    """Write the way a camera does: each page with its pixels, the description first."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYTCZ" Type="uint16"'
        f' SizeX="{WIDTH}"'
        f' SizeY="{HEIGHT}" SizeT="{N}" SizeC="1" SizeZ="1"><TiffData/></Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(path) as writer:
        for i, frame in enumerate(stack()):
            writer.write(
                frame, contiguous=False, metadata=None, description=xml if i == 0 else None
            )


def write_npy(path):
    np.save(path, stack())


@pytest.mark.parametrize(
    "write, name, n_whole",
    [
        (write_shaped, "m.tif", 12),
        (write_imagej, "m.tif", 12),
        (write_pages, "m.tif", 12),
        (write_zlib, "m.tif", 12),
        (write_ome_pages, "m.ome.tif", 12),
        (write_npy, "m.npy", 11),
    ],
)
def test_a_movie_torn_in_the_middle_gives_what_is_whole_then_says_so(
    tmp_path, write, name, n_whole
):
    path = tmp_path / name
    write(path)
    cut(path)
    frames, events, error = play(replay(path))
    assert n_whole - 1 <= len(frames) <= n_whole
    for frame, expected in zip(frames, stack(), strict=False):
        np.testing.assert_array_equal(frame.adu, expected)
    assert [event.kind for event in events] == ["failed"]
    assert events[0].frame == len(frames)
    assert events[0].n_frames >= 1
    assert str(path) in error
    assert f"frame {len(frames)}" in error
    assert "cut short" in error
    assert "\n" not in error


def test_the_damage_passes_through_the_ring_in_order(tmp_path):
    write_npy(tmp_path / "m.npy")
    cut(tmp_path / "m.npy")
    frames, events, error = play(BufferedSource(replay(tmp_path / "m.npy", fps=500.0), 32))
    assert len(frames) == 11
    assert [event.kind for event in events] == ["failed"]
    assert "cut short" in error


def test_damaged_pixels_in_a_compressed_page_are_named(tmp_path):
    path = tmp_path / "m.tif"
    write_zlib(path)
    with tifffile.TiffFile(path) as tif:
        offset, n = tif.pages[7].dataoffsets[0], tif.pages[7].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + n] = bytes(n)
    path.write_bytes(data)
    frames, events, error = play(replay(path))
    assert len(frames) == 7
    assert events[0].kind == "failed"
    assert "frame 7 cannot be read" in error


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
def test_no_file_an_empty_file_and_noise_are_refused(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    assert "no such movie" in refusal(path)
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(np.random.default_rng(1).bytes(5000))
    assert "not a" in refusal(path)


@pytest.mark.parametrize("fraction", [0.0002, 0.005])
@pytest.mark.parametrize("write, name", [(write_shaped, "m.tif"), (write_npy, "m.npy")])
def test_a_movie_cut_before_its_first_frame_is_refused(tmp_path, write, name, fraction):
    write(tmp_path / name)
    cut(tmp_path / name, fraction)
    refusal(tmp_path / name)


def test_a_torn_npz_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", frames=stack())
    cut(tmp_path / "m.npz")
    assert "not a readable .npz" in refusal(tmp_path / "m.npz")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int16, np.uint32])
def test_pixels_that_are_no_counts_are_refused_with_advice(tmp_path, dtype):
    data = stack(5, dtype)
    np.save(tmp_path / "m.npy", data)
    np.savez(tmp_path / "m.npz", frames=data)
    tifffile.imwrite(tmp_path / "m.tif", data)
    for suffix in (".npy", ".npz", ".tif"):
        message = refusal(tmp_path / f"m{suffix}")
        assert np.dtype(dtype).name in message
        assert "raw counts" in message


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "m.npz", frames=np.array([{"a": 1}], dtype=object))
    refusal(tmp_path / "m.npy")
    refusal(tmp_path / "m.npz")


@pytest.mark.parametrize("shape", [(8,), (8, 8), (2, 3, 8, 8)])
def test_a_stack_of_another_shape_is_refused(tmp_path, shape):
    data = np.ones(shape, np.uint16)
    np.save(tmp_path / "m.npy", data)
    np.savez(tmp_path / "m.npz", frames=data)
    for suffix in (".npy", ".npz"):
        message = refusal(tmp_path / f"m{suffix}")
        assert str(shape) in message
        assert "(frames, height, width)" in message


def test_a_stack_without_frames_is_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((0, 8, 8), np.uint16))
    assert "empty" in refusal(tmp_path / "m.npy")


def test_colour_and_hyperstacks_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "rgb.tif", np.ones((3, 8, 8, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "tc.tif", np.ones((4, 5, 8, 8), np.uint16))
    axes = {"axes": "TCYX"}
    tifffile.imwrite(
        tmp_path / "ij.tif", np.ones((4, 5, 8, 8), np.uint16), imagej=True, metadata=axes
    )
    tifffile.imwrite(
        tmp_path / "o.ome.tif", np.ones((4, 5, 8, 8), np.uint16), ome=True, metadata=axes
    )
    for name in ("rgb.tif", "tc.tif", "ij.tif", "o.ome.tif"):
        refusal(tmp_path / name)


def test_pages_that_change_shape_end_the_stream_with_an_event(tmp_path):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        for shape in [(16, 16)] * 4 + [(16, 20)] * 3:
            writer.write(np.ones(shape, np.uint16), contiguous=False, metadata=None)
    frames, events, error = play(replay(path))
    assert len(frames) == 4
    assert [(event.kind, event.frame) for event in events] == [("shape", 4)]
    assert error == ""


def test_pages_that_change_type_are_never_rounded(tmp_path):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        for dtype in [np.uint16] * 2 + [np.float32]:
            writer.write(np.ones((16, 16), dtype), contiguous=False, metadata=None)
    frames, events, error = play(replay(path))
    assert len(frames) == 2
    assert events[0].kind == "failed"
    assert "frame 2 is not uint8 or uint16" in error


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # ndstorage's writer leaves its file open
@pytest.mark.parametrize("damage", ["index", "pixels", "no index", "no pixels"])
def test_a_damaged_ndtiff_is_one_line(tmp_path, damage, capfd):
    from ndstorage import NDTiffDataset

    data = NDTiffDataset(str(tmp_path), name="run", writable=True)
    data.initialize({})
    for i, frame in enumerate(stack(6)):
        data.put_image({"time": i}, frame, {"ElapsedTime-ms": 20.0 * i})
    data.finish()
    data.close()
    path = tmp_path / "run_1"
    index, pixels = path / "NDTiff.index", next(path.glob("*.tif"))
    {
        "index": lambda: cut(index, 0.7),
        "pixels": lambda: cut(pixels, 0.5),
        "no index": index.unlink,
        "no pixels": pixels.unlink,
    }[damage]()
    capfd.readouterr()
    refusal(path)
    assert capfd.readouterr().out == ""


def test_options_that_make_no_sense_are_refused(tmp_path):
    np.save(tmp_path / "m.npy", stack(3))
    assert "nothing between" in refusal(tmp_path / "m.npy", start=3)
    assert "longer than" in refusal(tmp_path / "m.npy", exposure_s=0.05)
    assert "'key'" in refusal(tmp_path / "m.npy", key="a")
    (tmp_path / "m.avi").write_bytes(b"RIFF")
    assert ".avi" in refusal(tmp_path / "m.avi")
    assert "NDTiff" in refusal(tmp_path)


def test_an_unknown_kind_of_source_lists_the_known_ones():
    with pytest.raises(SourceError, match=r"run.toml: .*'webcam' \(known: .*replay.*\)"):
        open_source("webcam", {}, origin="run.toml")


def test_events_are_single_lines(tmp_path):
    write_pages(tmp_path / "m.tif")
    cut(tmp_path / "m.tif")
    _, events, _ = play(replay(tmp_path / "m.tif"))
    assert all(isinstance(e, Event) and "\n" not in e.message for e in events)
