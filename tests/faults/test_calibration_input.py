"""What can be wrong with dark and flat series, and with a calibration file, is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from livespt.calibration import CalibrationError, Options, calibrate, checks, note_on_gain
from livespt.camera import Camera, Emccd, Ideal, Scmos
from livespt.camera_file import CameraFile, read_camera_file, write_camera_file
from livespt.cli import main
from livespt.config import ConfigError, build_camera, choose_camera
from livespt.journal import read_run
from livespt.sections import CameraConfig, Config, SourceConfig, WireConfig
from livespt.session import Session
from livespt.sources import open_source
from livespt.types import Frame

SHAPE = (48, 48)
CAMERA = Scmos(2.2, 100.0, 2.0)


def frames(rate_e, n: int, seed: int, camera: Camera = CAMERA) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rate = np.broadcast_to(rate_e, (n, *SHAPE))
    return np.stack([camera.sample(one, rng) for one in rate])


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A good dark and two good flats in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.save("dark.npy", frames(0.0, 250, 1))
    np.save("f1.npy", frames(40.0, 120, 2))
    np.save("f2.npy", frames(160.0, 120, 3))
    return tmp_path


def notes(*flats: str, dark: str = "dark.npy", **options) -> str:
    return "\n".join(calibrate(Path(dark), [Path(f) for f in flats], Options(**options)).notes)


def complain(capsys, *arguments: str) -> str:
    """Run `livespt calibrate`; check that it refuses in one line and writes nothing."""
    assert main(["calibrate", *arguments, "--out", "cal.npz", "--json"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert line == f"livespt: {json.loads(out)['error']}"
    assert not list(Path().glob("cal.npz*"))
    return line


def test_good_series_give_no_note(place):
    assert notes("f1.npy", "f2.npy") == ""


# --- series that are refused -----------------------------------------------------------------


def test_a_flat_without_light_is_refused(place, capsys):
    np.save("off.npy", frames(0.0, 50, 4))
    line = complain(capsys, "--dark", "dark.npy", "--flat", "off.npy")
    assert "off.npy: not brighter than the dark series" in line
    assert "swapped" in complain(capsys, "--dark", "f1.npy", "--flat", "dark.npy")


def test_shapes_that_differ_are_refused(place, capsys):
    np.save("small.npy", np.load("f1.npy")[:, :20])
    line = complain(capsys, "--dark", "dark.npy", "--flat", "small.npy")
    assert "(20, 48)" in line
    assert "(48, 48)" in line


def test_a_handful_of_frames_is_refused(place, capsys):
    np.save("short.npy", np.load("f1.npy")[:5])
    assert "5 frames; expected 20" in complain(capsys, "--dark", "dark.npy", "--flat", "short.npy")


def test_an_scmos_camera_needs_a_flat(place, capsys):
    assert "--flat" in complain(capsys, "--dark", "dark.npy")


def test_a_missing_a_torn_and_a_float_movie_are_named(place, capsys):
    assert "nowhere.tif" in complain(capsys, "--dark", "nowhere.tif", "--flat", "f1.npy")
    Path("torn.npy").write_bytes(Path("f1.npy").read_bytes()[:2000])
    assert "torn.npy" in complain(capsys, "--dark", "dark.npy", "--flat", "torn.npy")
    np.save("float.npy", np.zeros((30, *SHAPE)))
    assert "float64" in complain(capsys, "--dark", "float.npy", "--flat", "f1.npy")


def test_all_flats_saturated_is_refused(place, capsys):
    np.save("bright.npy", np.minimum(np.load("f2.npy"), 455))
    line = complain(capsys, "--dark", "dark.npy", "--flat", "bright.npy")
    assert "converter's top of 455" in line


def test_too_many_dead_pixels_are_refused(place, capsys):
    half = np.load("f1.npy")
    half[:, :, :5] = 100  # light does not reach them
    np.save("half.npy", half)
    assert "10% of the pixels" in complain(capsys, "--dark", "dark.npy", "--flat", "half.npy")


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("--excess", "2.5", "--excess"),
        ("--expected-gain", "0", "--expected-gain"),
        ("--exposure-ms", "-1", "--exposure-ms"),
        ("--plots", "dark.npy", "--plots"),
        ("--model", "ccd", "ccd"),
    ],
)
def test_an_option_out_of_range_is_named(place, capsys, flag, value, word):
    assert word in complain(capsys, "--dark", "dark.npy", "--flat", "f1.npy", flag, value)


def test_a_place_where_nothing_can_be_written_is_named_first(place, capsys):
    for out in ("cal.txt", "nowhere/cal.npz"):
        assert main(["calibrate", "--dark", "dark.npy", "--flat", "f1.npy", "--out", out]) == 2
        assert out in capsys.readouterr().err


def test_an_emccd_without_flats_or_spurious_charge_is_refused(place):
    np.save("ed.npy", frames(0.0, 60, 5, Emccd(50.0, 2.0, 10.0, 400.0)))
    with pytest.raises(CalibrationError, match=r"too little spurious charge.*--flat"):
        calibrate(Path("ed.npy"), [], Options(model="emccd"))


@pytest.mark.parametrize("model", ["scmos", "emccd"])
def test_frames_without_noise_are_no_cameras(place, model):
    np.save("dark.npy", np.full((30, *SHAPE), 100, np.uint16))
    np.save("f1.npy", np.full((30, *SHAPE), 300, np.uint16))
    with pytest.raises(CalibrationError, match=r"f1\.npy: without noise"):
        calibrate(Path("dark.npy"), [Path("f1.npy")], Options(model=model))


# --- series that are used, with a word -------------------------------------------------------


def test_a_light_leak_is_named(place):
    ramp = np.broadcast_to(np.linspace(0.0, 12.0, 48), SHAPE)
    np.save("lit.npy", frames(ramp, 250, 6))
    assert "lit.npy: looks lit" in notes("f1.npy", "f2.npy", dark="lit.npy")


def test_an_offset_that_differs_over_the_chip_is_no_light_leak(place):
    offset = 100 + np.broadcast_to(np.linspace(0.0, 26.0, 48), SHAPE)
    camera = Scmos(2.2, offset, 2.0)
    for name, level in (("dark", 0.0), ("f1", 40.0), ("f2", 160.0)):
        np.save(f"{name}.npy", frames(level, 250, 7, camera))
    assert notes("f1.npy", "f2.npy") == ""


def test_a_level_that_reaches_the_top_is_left_out(place):
    np.save("f3.npy", np.minimum(frames(1750.0, 120, 8), 4095))  # a 12-bit converter
    found = calibrate(Path("dark.npy"), [Path(f"f{k}.npy") for k in (1, 2, 3)], Options())
    assert "f3.npy: 100% of the pixels reach the converter's top of 4095" in found.notes[0]
    assert found.summary["gain_adu_per_e"] == pytest.approx(2.2, rel=0.01)
    assert len(found.flats) == 2


def test_a_lamp_that_drifts_is_named_and_does_no_harm(place):
    lamp = np.linspace(0.8, 1.2, 120)[:, None, None]
    np.save("f2.npy", frames(160.0 * lamp, 120, 9))
    found = calibrate(Path("dark.npy"), [Path("f1.npy"), Path("f2.npy")], Options())
    assert "f2.npy: the lamp changes by 11" in found.notes[0]
    assert found.summary["gain_adu_per_e"] == pytest.approx(2.2, rel=0.01)


def test_light_that_moves_over_the_field_is_named(place):
    tilt = np.linspace(-0.15, 0.15, 48) * np.linspace(-1, 1, 120)[:, None, None]
    np.save("f2.npy", frames(160.0 * (1 + tilt), 120, 10))
    assert "light that moves over the field" in notes("f1.npy", "f2.npy")


def test_a_dark_level_that_drifts_is_named(place):
    drifting = np.load("dark.npy") + np.linspace(0, 8, 250).round().astype(np.uint16)[:, None, None]
    np.save("dark.npy", drifting)
    found = notes("f1.npy", "f2.npy")
    assert "dark.npy: the dark level moves" in found
    assert "warm up" in found


def test_a_bent_response_is_named(place):
    raw = frames(2000.0, 120, 11).astype(float) - 100
    bent = 100 + raw * (1 - raw / 20_000)  # 22 % low at the top, and the noise lower still
    np.save("f3.npy", bent.round().astype(np.uint16))
    assert "f3.npy: noise per light is" in notes("f1.npy", "f2.npy", "f3.npy")


def test_one_level_alone_is_said_to_show_no_line(place):
    assert "only one flat series" in notes("f2.npy")


def test_too_few_frames_say_how_many_would_do(place):
    gain = 2.2 * (1 + 0.08 * np.random.default_rng(0).standard_normal(SHAPE))
    uneven = Scmos(np.maximum(gain, 1.6), 100.0, 2.0)
    for name, level, n in (("dark", 0.0, 60), ("f1", 40.0, 100), ("f2", 160.0, 100)):
        np.save(f"{name}.npy", frames(level, n, 12, uneven))
    found = calibrate(Path("dark.npy"), [Path("f1.npy"), Path("f2.npy")], Options())
    (line,) = found.notes
    assert "200 dark frames would give each pixel's read variance to 10%" in line
    n = int(line.split(" frames per flat")[0].split()[-1])
    # sd of a gain is about sqrt(2 / (n m)): 2 % from 2 levels needs some 2600, a bit less shrunk
    assert 1900 < n < 3500


def test_a_file_cut_short_is_used_as_far_as_it_goes(place):
    data = Path("f2.npy").read_bytes()
    Path("f2.npy").write_bytes(data[: len(data) * 3 // 4])
    assert "f2.npy: the file is cut short: 89 of 120" in notes("f1.npy", "f2.npy")


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (2.3, []),
        (0.46, ["looks inverted", "0.46 e-/ADU is 2.17 ADU/e-"]),
        (0.9, ["does not fit", "2.2 ADU/e-", "0.45"]),
    ],
)
def test_a_gain_from_the_data_sheet_is_held_against_the_one_found(place, expected, words):
    found = notes("f1.npy", "f2.npy", expected_gain=expected)
    assert bool(found) == bool(words)
    assert all(word in found for word in words)


# --- frames against a config -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("drawn", "given", "words"),
    [
        (Scmos(2.17, 100.0, 2.0), Scmos(2.17, 100.0, 2.0), ""),
        (Scmos(2.17, 100.0, 2.0), Scmos(0.46, 100.0, 2.0), "0.46 e-/ADU is 2.17 ADU/e-"),
        (Scmos(0.46, 100.0, 2.0), Scmos(2.17, 100.0, 2.0), "2.17 e-/ADU is 0.461 ADU/e-"),
        (Scmos(2.17, 100.0, 2.0), Scmos(2.17, 400.0, 2.0), "below the camera's offset"),
        (Scmos(4.0, 100.0, 2.0), Ideal(), "'ideal' counts each ADU as an electron"),
        (Emccd(50.0, 2.0, 10.0, 400.0), Emccd(50.0, 2.0, 10.0, 400.0), ""),
        (Emccd(50.0, 2.0, 10.0, 400.0), Emccd(5.0, 2.0, 10.0, 400.0), "does not fit"),
    ],
)
def test_a_camera_that_contradicts_the_frames_is_named(drawn, given, words):
    """Molecules come and go on a background of 20 electrons; 30 frames."""
    rng = np.random.default_rng(13)
    rates = np.full((30, *SHAPE), 20.0)
    for rate in rates:
        y, x = rng.integers(0, 48, (2, 20))
        rate[y, x] += 200.0
    said = note_on_gain([drawn.sample(rate, rng) for rate in rates], given)
    assert words in said
    assert bool(words) == bool(said)


@pytest.mark.parametrize(
    ("scene", "molecules"),
    [("demo", 300.0), ("demo", 24.0), ("emccd", 300.0), ("ideal", 100.0), ("dim", 300.0)],
)
def test_an_experiment_raises_no_false_alarm(scene, molecules):
    """300 molecules in 26 x 26 um: hardly a pixel is without light that comes and goes."""
    options = {"scene": scene, "n_frames": 64, "paced": False, "molecules": molecules}
    source = open_source("simulated", options)
    seen = [item.adu for item in source.frames() if isinstance(item, Frame)]
    assert note_on_gain(seen, source.camera) == ""  # type: ignore[attr-defined]


def test_frames_without_light_say_nothing_of_the_gain():
    assert note_on_gain(frames(0.2, 30, 14), Scmos(0.46, 100.0, 2.0)) == ""


def test_check_says_so_of_a_movie(place, capsys):
    Path("c.toml").write_text(
        "[source]\nkind='replay'\n[source.options]\npath='f1.npy'\ninterval_s=0.02\n"
        "[camera]\nmodel='scmos'\ngain_adu_per_e=0.46\noffset_adu=100.0\nvar_e2=2.0\n"
        "[optics]\npixel_um=0.1\nsigma_um=0.1\n"
    )
    assert main(["check", "c.toml"]) == 0
    assert "its gain looks inverted" in capsys.readouterr().out


# --- the file --------------------------------------------------------------------------------


def written(name: str = "cal.npz", **changes) -> Path:
    gain = np.full(SHAPE, 2.2)
    values = {"gain_adu_per_e": gain, "offset_adu": gain * 45, "var_e2": gain}
    content = CameraFile("scmos", values, {}, np.zeros(SHAPE, bool), {"camera_id": "DCam 7"})
    write_camera_file(Path(name), content)
    if changes:
        with np.load(name) as archive:
            arrays = dict(archive) | changes
        np.savez(name, **arrays)
    return Path(name)


def load(path: Path, model: str = "scmos", identity: str = "", shape=SHAPE, **more) -> Camera:
    config = CameraConfig(model=model, calibration=str(path), **more)
    return choose_camera(config, shape, None, "run.toml", identity)[0]


def test_a_file_comes_back_as_it_was_written(place):
    result = calibrate(Path("dark.npy"), [Path("f1.npy")], Options(about={"camera_id": "A 1"}))
    write_camera_file(Path("cal.npz"), result.file)
    back = read_camera_file(Path("cal.npz"))
    assert back.model == "scmos"
    assert back.camera_id == "A 1"
    assert back.about == result.file.about
    assert back.about["dark"] == {"file": "dark.npy", "frames": 250}
    for key, value in result.file.values.items():
        np.testing.assert_allclose(back.values[key], value, rtol=1e-6)  # float32
        np.testing.assert_allclose(back.errors[key], result.file.errors[key], rtol=1e-6)
    # the file's own model counts where the config leaves the model to the source
    assert isinstance(load(Path("cal.npz"), "source"), Scmos)


def test_an_emccds_file_is_read_too(place):
    values = {"gain_adu_per_e": 50.0, "offset_adu": 400.0, "readout_adu": 10.0, "excess": 2.0}
    write_camera_file(Path("em.npz"), CameraFile("emccd", values))
    assert load(Path("em.npz"), "emccd") == Emccd(50.0, 2.0, 10.0, 400.0)
    with pytest.raises(ConfigError, match=r"em\.npz: calibrates model 'emccd', not 'scmos'"):
        load(Path("em.npz"))
    with pytest.raises(ConfigError, match="goes with model 'scmos' or 'emccd', not 'ideal'"):
        load(Path("em.npz"), "ideal")


def test_another_camera_is_refused(place):
    path = written()
    for identity in ("", "DemoCamera DCam 7", "dcam 7"):
        load(path, identity=identity)
    with pytest.raises(ConfigError, match=r"cal\.npz: made with camera 'DCam 7'.*'DCam 9'"):
        load(path, identity="DCam 9")


def test_a_run_with_another_camera_is_refused(place, capsys):
    written()
    Path("c.toml").write_text(
        "[source.options]\nheight_px=48\nwidth_px=48\n[camera]\ncalibration='cal.npz'\n"
    )
    assert main(["check", "c.toml"]) == 2  # the simulated camera calls itself simulated:scmos
    assert "made with camera 'DCam 7', the source is 'simulated:scmos'" in capsys.readouterr().err


def test_a_run_notes_how_many_pixels_are_masked(place):
    maps = {"gain_adu_per_e": np.full(SHAPE, 2.2), "offset_adu": np.full(SHAPE, 100.0)}
    maps["gain_adu_per_e"][2, 3] = np.nan
    np.savez("hand.npz", var_e2=1.2, **maps)
    options = {"height_px": 48, "width_px": 48, "n_frames": 5, "paced": False}
    config = Config(
        source=SourceConfig(options=options),
        camera=CameraConfig(model="scmos", calibration="hand.npz"),
        wire=WireConfig(enabled=False),
    )
    with Session(config) as session:
        result = session.run()
    assert not result.failed
    events = read_run(Path(result.run)).events
    assert any("1 of 2304 pixels are bad and masked" in event.message for event in events)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "calibration version 2, this livespt reads 1"),
        ({"format": "other"}, "format 'other'"),
        ({"about": "{torn"}, "not a calibration .npz"),
        ({"bad": np.zeros(SHAPE)}, "'bad' is float64"),
        ({"var_e2": np.zeros((3, 3, 3))}, "(3, 3, 3)"),
        ({"gain_adu_per_e": "two"}, "'gain_adu_per_e' is <U3"),
    ],
)
def test_a_wrong_or_later_file_is_named(place, changes, words):
    with pytest.raises(ConfigError) as caught:
        load(written(**changes))
    assert words in str(caught.value)
    assert "cal.npz" in str(caught.value)


def test_a_file_cut_anywhere_is_refused_in_one_line(place):
    data = written().read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        Path("torn.npz").write_bytes(data[: int(part * len(data))])
        with pytest.raises(ConfigError, match=r"torn\.npz: not a calibration"):
            load(Path("torn.npz"))


def test_a_flipped_bit_in_a_map_is_noticed(place):
    data = bytearray(written().read_bytes())
    data[data.index(b"gain_adu_per_e.npy") + 1000] ^= 4
    Path("bad.npz").write_bytes(bytes(data))
    with pytest.raises(ConfigError, match=r"bad\.npz: not a calibration"):
        load(Path("bad.npz"))


def test_a_part_of_the_chip_is_cut_out(place):
    gain = np.arange(48.0 * 48).reshape(SHAPE) + 1
    np.savez("hand.npz", gain_adu_per_e=gain, offset_adu=100.0, var_e2=1.0)
    part = load(Path("hand.npz"), shape=(10, 20), calibration_origin_px=[5, 7])
    assert isinstance(part, Scmos)
    np.testing.assert_array_equal(part.gain_adu_per_e, gain[7:17, 5:25])
    with pytest.raises(ConfigError, match="calibration_origin_px"):
        load(Path("hand.npz"), shape=(10, 20))  # the hint
    with pytest.raises(ConfigError, match="reach beyond it"):
        load(Path("hand.npz"), shape=(10, 20), calibration_origin_px=[40, 7])
    with pytest.raises(ConfigError, match=r"expected \[x0, y0\]"):
        load(Path("hand.npz"), shape=(10, 20), calibration_origin_px=[40])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gain_adu_per_e", np.nan),
        ("gain_adu_per_e", 0.0),
        ("gain_adu_per_e", -1.0),
        ("offset_adu", np.inf),
        ("var_e2", -1.0),
        ("var_e2", 0.0),
    ],
)
def test_a_few_bad_pixels_are_masked_and_many_refused(place, key, value):
    maps = {"gain_adu_per_e": np.full(SHAPE, 2.2), "offset_adu": np.full(SHAPE, 100.0)}
    maps["var_e2"] = np.full(SHAPE, 1.5)
    maps[key][3, 4] = value
    np.savez("hand.npz", **maps)
    config = CameraConfig(model="scmos", calibration="hand.npz")
    camera, said = choose_camera(config, SHAPE)
    assert "1 of 2304 pixels are bad and masked" in said[0]
    assert isinstance(camera, Scmos)
    assert camera.var_e2[3, 4] > 1e4
    maps[key][:, :10] = value
    np.savez("hand.npz", **maps)
    if (key, value) == ("var_e2", 0.0):
        maps[key][:] = 0.0  # a camera said to be without noise is taken at its word
        np.savez("hand.npz", **maps)
        assert choose_camera(config, SHAPE)[1] == []
        return
    with pytest.raises(ConfigError, match=r"hand\.npz: 48\d of 2304 pixels are bad"):
        build_camera(config, SHAPE)


# --- the command -----------------------------------------------------------------------------


def test_the_command_works_on_tiff_and_npy_end_to_end(place, capsys):
    tifffile.imwrite("f1.tif", np.load("f1.npy"), photometric="minisblack")
    tifffile.imwrite("dark.ome.tif", np.load("dark.npy"), photometric="minisblack")
    line = ["calibrate", "--dark", "dark.ome.tif", "--flat", "f1.tif", "--flat", "f2.npy"]
    line += ["--out", "cal.npz", "--camera-id", "DCam 7", "--exposure-ms", "20"]
    assert main([*line, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["gain_adu_per_e"] == pytest.approx(2.2, rel=0.01)
    assert answer["offset_adu"] == pytest.approx(100.0, abs=0.1)
    assert answer["read_noise_e"] == pytest.approx(np.sqrt(2.0), rel=0.05)
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "ADU/e-" in out
    assert "cal.npz: written" in out
    back = read_camera_file(Path("cal.npz"))
    assert (back.camera_id, back.about["exposure_s"]) == ("DCam 7", 0.02)
    assert load(Path("cal.npz"), "source").shape == SHAPE


def test_plots_are_drawn_for_both_models(place, capsys):
    pytest.importorskip("matplotlib")
    line = ["calibrate", "--dark", "dark.npy", "--flat", "f1.npy", "--flat", "f2.npy"]
    assert main([*line, "--out", "cal.npz", "--plots", "p", "--json"]) == 0
    drawn = [Path(name) for name in json.loads(capsys.readouterr().out)["plots"]]
    assert {p.name for p in drawn} == {
        "mean-variance.png",
        "histograms.png",
        "maps.png",
        "light.png",
    }
    np.save("ed.npy", frames(0.05, 40, 15, Emccd(50.0, 2.0, 10.0, 400.0)))
    line = ["calibrate", "--dark", "ed.npy", "--model", "emccd", "--out", "em.npz"]
    assert main([*line, "--plots", "q", "--json"]) == 0
    drawn += [Path(name) for name in json.loads(capsys.readouterr().out)["plots"]]
    assert {p.name for p in drawn[4:]} == {"dark-counts.png", "light.png"}
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert len(path.read_bytes()) > 10_000


def test_plots_without_matplotlib_are_refused_before_the_work(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = complain(capsys, "--dark", "dark.npy", "--flat", "f1.npy", "--plots", "p")
    assert "pip install 'livespt[report]'" in line


def test_the_top_of_a_converter_is_found_and_not_imagined():
    class One:
        def __init__(self, highest):
            self.highest = np.asarray(highest, np.uint16)

    rng = np.random.default_rng(0)
    free = rng.normal(5000, 30, (48, 48)).round()
    assert checks.find_top([One(free)], None) == 65535
    assert checks.find_top([One(np.minimum(free, 5010))], None) == 5010
    assert checks.find_top([One(np.where(free > 5090, 1023, 900))], None) in (1023, 65535)
    assert checks.find_top([One(free)], 5050) == 5050
