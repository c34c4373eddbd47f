"""Bad input: one line that names the culprit, a non-zero exit, nothing half-written."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import tifffile

from livespt.cli import main

CAMERA = "[camera]\nmodel = 'ideal'\n[optics]\npixel_um = 0.1\nsigma_um = 0.1\n"
TIMING = ["--frame-ms", "20"]


def complain(capsys, arguments: list[str]) -> str:
    """Run the command line; return its complaint after checking its form."""
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in out + err
    lines = err.strip().splitlines()
    assert len(lines) == 1, lines
    answer = json.loads(out.strip().splitlines()[-1])
    assert answer["exit"] == 2
    assert lines[0] == f"livespt: {answer['error']}"
    return lines[0]


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """A config for replays; the working folder is empty but for it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "camera.toml"
    path.write_text(CAMERA)
    return path


def nothing_written(folder: Path) -> bool:
    return not (folder / "runs").exists() or not list((folder / "runs").iterdir())


def replay(capsys, movie: Path, config: Path, *more: str) -> str:
    complaint = complain(capsys, ["replay", str(movie), "--config", str(config), *TIMING, *more])
    assert nothing_written(config.parent)
    return complaint


def test_a_missing_movie(capsys, config):
    assert "nowhere.tif" in replay(capsys, Path("nowhere.tif"), config)


def test_a_torn_movie(capsys, config):
    movie = config.parent / "torn.tif"
    tifffile.imwrite(movie, np.zeros((20, 64, 64), np.uint16), photometric="minisblack")
    movie.write_bytes(movie.read_bytes()[:100])
    assert "torn.tif" in replay(capsys, movie, config)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((5, 32, 32), np.float32), "float32"),
        (np.zeros((5, 32, 32), np.int32), "int32"),
        (np.zeros((2, 5, 32, 32), np.uint16), "(2, 5, 32, 32)"),
        (np.zeros((0, 32, 32), np.uint16), "empty"),
    ],
)
def test_a_movie_of_a_wrong_kind(capsys, config, array, word):
    movie = config.parent / "odd.npy"
    np.save(movie, array)
    complaint = replay(capsys, movie, config)
    assert "odd.npy" in complaint
    assert word in complaint


def test_a_movie_of_unknown_pace(capsys, config):
    movie = config.parent / "movie.npy"
    np.save(movie, np.zeros((5, 32, 32), np.uint16))
    complaint = complain(capsys, ["replay", str(movie), "--config", str(config)])
    assert "interval" in complaint


def test_a_movie_whose_camera_is_unknown(capsys, config):
    movie = config.parent / "movie.npy"
    np.save(movie, np.zeros((5, 32, 32), np.uint16))
    config.write_text("[optics]\npixel_um = 0.1\nsigma_um = 0.1\n")
    assert "camera.model" in replay(capsys, movie, config)
    config.write_text("[camera]\nmodel = 'ideal'\n")
    assert "optics.pixel_um" in replay(capsys, movie, config)


def test_a_calibration_of_another_shape(capsys, config):
    movie = config.parent / "movie.npy"
    np.save(movie, np.zeros((5, 32, 32), np.uint16))
    np.savez("cal.npz", gain_adu_per_e=np.ones((16, 16)), offset_adu=0.0, var_e2=1.0)
    config.write_text(CAMERA.replace("model = 'ideal'", "model = 'scmos'\ncalibration = 'cal.npz'"))
    complaint = replay(capsys, movie, config)
    assert "cal.npz" in complaint
    assert "(16, 16)" in complaint
    assert "(32, 32)" in complaint


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04torn", "npy"])
def test_a_calibration_that_is_no_archive(capsys, config, content):
    movie = config.parent / "movie.npy"
    np.save(movie, np.zeros((5, 32, 32), np.uint16))
    path = config.parent / "cal.npz"
    if content == "npy":
        content = movie.read_bytes()
    path.write_bytes(content)
    config.write_text(CAMERA.replace("model = 'ideal'", "model = 'scmos'\ncalibration = 'cal.npz'"))
    assert "cal.npz" in replay(capsys, movie, config)


def test_a_calibration_with_many_dead_gains(capsys, config):
    """A few are masked; one in ten is no camera's (tests/faults/test_calibration_input.py)."""
    movie = config.parent / "movie.npy"
    np.save(movie, np.zeros((5, 32, 32), np.uint16))
    gain = np.ones((32, 32))
    gain[:4] = 0.0
    np.savez("cal.npz", gain_adu_per_e=gain, offset_adu=0.0, var_e2=1.0)
    config.write_text(CAMERA.replace("model = 'ideal'", "model = 'scmos'\ncalibration = 'cal.npz'"))
    assert "gain_adu_per_e" in replay(capsys, movie, config)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[camera]\ngain_adu_per_e = 0\n", "camera.gain_adu_per_e"),
        ("[camera]\ngain = 2\n", "camera.gain"),
        ("[sorce]\nkind = 'replay'\n", "did you mean 'source'"),
        ("[source]\nkind = 'webcam'\n", "webcam"),
        ("[source.options]\nscene = 'dmeo'\n", "demo"),
        ("[source.options]\nphotns = 3\n", "photns"),
        ("[infer]\nn_states = 0\n", "infer.n_states"),
        ("stop_after_s = inf\n", "stop_after_s"),
        ("[camera]\ngain_adu_per_e = nan\n", "camera.gain_adu_per_e"),
        ("[wire]\npublish = 'tcp://0.0.0.0:5570'\n", "wire.publish"),
        ("[camera\n", "TOML"),
    ],
)
def test_a_config_that_cannot_be_used(capsys, config, text, word):
    config.write_text(text)
    complaint = complain(capsys, ["run", str(config), "--seconds", "1"])
    assert config.name in complaint or "wire.publish" in complaint
    assert word in complaint
    assert nothing_written(config.parent)


def test_a_port_that_is_taken(capsys, config):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        config.write_text(f"[wire]\npublish = '{address}'\n")
        complaint = complain(capsys, ["run", str(config), "--seconds", "1"])
    assert address in complaint
    assert "taken" in complaint
    assert nothing_written(config.parent)


def test_a_device_that_is_not_there(capsys, config):
    config.write_text(
        "[source]\nkind = 'micromanager'\n[source.options]\ncamera = 'NoSuchCamera'\n"
        "[camera]\nmodel = 'ideal'\n[optics]\npixel_um = 0.1\nsigma_um = 0.1\n"
    )
    complaint = complain(capsys, ["run", str(config), "--seconds", "1"])
    assert "NoSuchCamera" in complaint
    assert nothing_written(config.parent)


def test_a_folder_that_cannot_be_written(capsys, config):
    (config.parent / "file").touch()
    config.write_text("[journal]\nfolder = 'file/runs'\n[wire]\nenabled = false\n")
    assert "file" in complain(capsys, ["run", str(config), "--seconds", "1"])


def test_recover_of_what_is_no_run(capsys, config):
    assert str(config.parent) in complain(capsys, ["recover", str(config.parent)])


@pytest.mark.parametrize("seconds", ["-1", "0", "inf", "nan"])
def test_a_time_that_is_none(capsys, config, seconds):
    assert "--seconds" in complain(capsys, ["demo", f"--seconds={seconds}"])


def test_words_the_command_line_does_not_know(capsys, config):
    assert "--sede" in complain(capsys, ["demo", "--sede", "3"])
