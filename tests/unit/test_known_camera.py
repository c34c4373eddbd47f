"""What a source knows of its camera is held against the config, and fills its gaps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from livespt.camera_file import CameraFile, Region, write_camera_file
from livespt.config import ConfigError, choose_camera, parse
from livespt.sections import CameraConfig
from livespt.stages import open_stages
from livespt.types import SourceInfo

FULL, PART = (40, 60), (20, 30)


def maps(shape: tuple[int, int] = FULL) -> dict:
    """Return maps whose offsets name the pixel."""
    y, x = np.indices(shape)
    return {
        "gain_adu_per_e": np.full(shape, 2.0),
        "offset_adu": 100.0 + y + x / 100,
        "var_e2": np.full(shape, 1.0),
    }


def calibration(folder: Path, model: str = "scmos", shape=FULL, **about) -> CameraConfig:
    path = folder / "camera.npz"
    if model:
        write_camera_file(path, CameraFile(model, maps(shape), about=about))
    else:
        np.savez(path, **maps(shape))  # made by hand
    return CameraConfig(model="scmos", calibration=str(path))


def source(**knows):
    info = SourceInfo("a camera", PART, 0.01, 0.009, 10, False)
    return SimpleNamespace(info=info, close=lambda: None, **knows)


def stages(knows: dict, **sections):
    config = parse({"camera": {"model": "ideal"}, "optics": {"sigma_um": 0.12}, **sections})
    return open_stages(config, "run.toml", source(**knows))


def test_the_cores_region_chooses_the_part_of_the_calibration(tmp_path):
    config = calibration(tmp_path)
    camera, notes = choose_camera(config, PART, region=Region(1, (7, 5)))
    assert camera.offset_adu[0, 0] == pytest.approx(100 + 5 + 0.07, abs=1e-4)
    assert "[7, 5]" in notes[0]


def test_the_configs_own_region_comes_first(tmp_path):
    config = calibration(tmp_path)
    config = CameraConfig(
        model="scmos", calibration=config.calibration, calibration_origin_px=[1, 2]
    )
    camera, notes = choose_camera(config, PART, region=Region(1, (7, 5)))
    assert camera.offset_adu[0, 0] == pytest.approx(102.01, abs=1e-4)
    assert notes == []


def test_a_region_beyond_the_calibrated_chip_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="reach beyond it"):
        choose_camera(calibration(tmp_path), PART, region=Region(1, (50, 5)))


def test_maps_of_the_frames_own_shape_are_taken_as_made_there_and_a_note_says_so(tmp_path):
    config = calibration(tmp_path, shape=PART)
    camera, (note,) = choose_camera(config, PART, region=Region(1, (7, 5)))
    assert camera.offset_adu[0, 0] == pytest.approx(100.0)
    assert "this region" in note
    assert choose_camera(config, PART, region=Region(1, (0, 0)))[1] == []


@pytest.mark.parametrize("made, runs", [(1, 2), (2, 1), (2, 4)])
def test_a_calibration_of_other_binning_is_refused(tmp_path, made, runs):
    config = calibration(tmp_path, shape=PART, binning=made)
    with pytest.raises(ConfigError, match=f"binning {made}, the source bins {runs} x {runs}"):
        choose_camera(config, PART, region=Region(runs, (0, 0)))


def test_a_calibration_of_the_same_or_of_unknown_binning_serves(tmp_path):
    config = calibration(tmp_path, shape=PART, binning=2)
    choose_camera(config, PART, region=Region(2, (0, 0)))
    choose_camera(config, PART, region=Region())  # a movie does not say


def test_binned_maps_made_by_hand_are_believed_where_they_fit(tmp_path):
    choose_camera(calibration(tmp_path, "", PART), PART, region=Region(2, (0, 0)))
    with pytest.raises(ConfigError, match="binning"):
        choose_camera(calibration(tmp_path, ""), PART, region=Region(2, (0, 0)))


def test_the_pixel_size_is_the_sources_where_the_config_has_none():
    found = stages({"pixel_um": 0.108})
    assert found.config.optics.pixel_um == 0.108
    assert found.notes == ()


@pytest.mark.parametrize("known_um, told", [(0.1009, False), (0.102, True)])
def test_pixel_sizes_that_differ_by_more_than_one_per_cent_are_told(known_um, told):
    found = stages({"pixel_um": known_um}, optics={"pixel_um": 0.1, "sigma_um": 0.12})
    assert found.config.optics.pixel_um == 0.1
    assert [("optics.pixel_um = 0.1" in note) for note in found.notes] == [True] * told


def test_the_bit_depth_gives_the_highest_count_where_the_config_does_not():
    found = stages({"pixel_um": 0.1, "saturation_adu": 4095})
    assert found.config.camera.saturation_adu == 4095
    assert "camera.saturation_adu = 4095" in found.notes[0]


def test_the_configs_own_highest_count_stays():
    given = {"model": "ideal", "saturation_adu": 3000}
    found = stages({"pixel_um": 0.1, "saturation_adu": 4095}, camera=given)
    assert found.config.camera.saturation_adu == 3000
    assert found.notes == ()
