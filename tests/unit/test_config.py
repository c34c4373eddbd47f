"""The config says which key is wrong, and writes back all that it reads."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Emccd, Ideal, Scmos
from livespt.config import ConfigError, build_camera, dump, load, parse
from livespt.sections import CameraConfig, Config, OpticsConfig


def test_an_empty_config_is_whole():
    assert parse({}) == Config()


def test_what_is_dumped_loads_to_the_same(tmp_path):
    config = parse({"camera": {"model": "emccd", "gain_adu_per_e": 50.0}, "stop_after_s": 3.0})
    path = tmp_path / "run.toml"
    path.write_text(dump(config))
    assert load(path) == config


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"camra": {}}, ["unknown key 'camra'", "did you mean 'camera'"]),
        ({"camera": {"gain": 2.0}}, ["unknown key 'camera.gain'", "gain_adu_per_e"]),
        ({"camera": {"gain_adu_per_e": 0}}, ["camera.gain_adu_per_e", "> 0"]),
        ({"camera": {"gain_adu_per_e": "2.2"}}, ["camera.gain_adu_per_e", "float"]),
        ({"camera": {"model": "ccd"}}, ["camera.model", "ccd"]),
        ({"infer": {"n_states": 9}}, ["infer.n_states", "<= 4"]),
        ({"localize": {"roi_px": 8}}, ["localize.roi_px", "8"]),
        ({"watch": {"bleached_to": 1.5}}, ["watch.bleached_to", "< 1"]),
        ({"watch": {"focus_lost": -0.1}}, ["watch.focus_lost", ">= 0"]),
        ({"watch": {"bleached": 0.3}}, ["unknown key 'watch.bleached'", "bleached_to"]),
        ({"stop_after_s": -1}, ["stop_after_s", "> 0"]),
    ],
)
def test_a_wrong_key_is_named(raw, words):
    with pytest.raises(ConfigError) as caught:
        parse(raw, "run.toml")
    message = str(caught.value)
    assert message.startswith("run.toml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_and_a_torn_file_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such config file"):
        load(tmp_path / "nowhere.toml")
    torn = tmp_path / "torn.toml"
    torn.write_text("[camera\nmodel=")
    with pytest.raises(ConfigError, match=r"torn\.toml: not valid TOML"):
        load(torn)


def test_a_camera_is_built_from_scalars_maps_or_the_source(tmp_path):
    shape = (4, 5)
    assert isinstance(build_camera(CameraConfig(model="ideal"), shape), Ideal)
    emccd = build_camera(CameraConfig(model="emccd", gain_adu_per_e=50.0), shape)
    assert isinstance(emccd, Emccd)
    path = tmp_path / "cal.npz"
    maps = np.full(shape, 2.0)
    np.savez(path, gain_adu_per_e=maps, offset_adu=100.0, var_e2=maps)
    mapped = build_camera(CameraConfig(model="scmos", calibration=str(path)), shape)
    assert isinstance(mapped, Scmos)
    known = Ideal()
    assert build_camera(CameraConfig(), shape, known) is known


def test_an_unknown_camera_is_never_guessed():
    with pytest.raises(ConfigError, match=r"camera\.model: this source does not know its camera"):
        build_camera(CameraConfig(), (4, 5))


def test_a_calibration_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "cal.npz"
    maps = np.full((4, 6), 2.0)
    np.savez(path, gain_adu_per_e=maps, offset_adu=100.0, var_e2=maps)
    with pytest.raises(ConfigError, match=r"cal\.npz: 'gain_adu_per_e' has shape \(4, 6\)"):
        build_camera(CameraConfig(model="scmos", calibration=str(path)), (4, 5))
    with pytest.raises(ConfigError, match=r"none\.npz: no such calibration file"):
        build_camera(CameraConfig(model="scmos", calibration=str(tmp_path / "none.npz")), (4, 5))
    path.write_bytes(b"PK torn")
    with pytest.raises(ConfigError, match=r"cal\.npz: not a calibration"):
        build_camera(CameraConfig(model="scmos", calibration=str(path)), (4, 5))


def test_a_width_follows_from_the_optics():
    optics = OpticsConfig(wavelength_um=0.639, numerical_aperture=1.4)
    assert optics.psf_sigma_um == pytest.approx(0.09585, rel=1e-3)  # SCIENCE 1
    assert OpticsConfig().psf_sigma_um == 0.0
