"""The simulated laser: a power that several processes share and that outlives them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from livespt.control import ControlError, known_actuators, open_actuator
from livespt.sections import ActuatorConfig
from livespt.types import Frame
from livespt_sim import open_source
from livespt_sim.laser import PowerCell

SMALL = {"height_px": 32, "width_px": 32, "molecules": 3.0, "paced": False, "background_e": 50.0}


def test_the_microscope_sees_the_laser_at_each_frame(tmp_path):
    path = tmp_path / "laser.cell"
    source = open_source(SMALL | {"n_frames": 4, "laser": str(path), "excitation": 2.0})
    cell = PowerCell(path)
    assert cell.power == 2.0
    frames = []
    for item in source.frames():
        if isinstance(item, Frame):
            frames.append(item)
            cell.power = 0.5 * len(frames)
    assert [frame.excitation for frame in frames] == [2.0, 0.5, 1.0, 1.5]
    # 1024 pixels of 50 photons each at excitation 1: the mean is known to 1 %
    light = np.array([frame.adu.mean() - 100.0 for frame in frames])  # less the offset
    assert light / light[2] == pytest.approx([2.0, 0.5, 1.0, 1.5], rel=0.25)


def test_a_power_outlives_the_process_that_set_it(tmp_path):
    path = tmp_path / "folder" / "laser.cell"
    script = (
        "import os, sys; from livespt_sim.laser import PowerCell; "
        "PowerCell(sys.argv[1]).power = 0.25; os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert PowerCell(path).power == 0.25


def test_a_file_that_is_no_cell_is_refused(tmp_path):
    (tmp_path / "cell").write_bytes(b"short")
    with pytest.raises(ControlError, match="cell: no power cell"):
        PowerCell(tmp_path / "cell")


def laser(**options):
    return open_actuator(ActuatorConfig(property=options.pop("property", ""), options=options))


def test_the_laser_does_as_it_is_told_or_fails_as_it_is_made_to(tmp_path):
    path = tmp_path / "cell"
    actuator, cell = laser(cell=str(path)), PowerCell(path)
    actuator.write(3.0)
    assert (actuator.read(), cell.power, actuator.real) == (3.0, 3.0, False)
    cell.reads = 1.1
    assert actuator.read() == pytest.approx(3.3)
    cell.broken = True
    for call in (actuator.read, lambda: actuator.write(1.0)):
        with pytest.raises(ControlError, match="does not answer"):
            call()
    actuator.close()
    assert cell.power == 3.0


def test_an_actuator_that_cannot_be_is_refused_by_its_key(tmp_path):
    cell = str(tmp_path / "cell")
    with pytest.raises(ControlError, match="missing required field `cell`"):
        laser()
    with pytest.raises(ControlError, match="unknown key 'cel'; did you mean 'cell'"):
        laser(cel=cell)
    with pytest.raises(ControlError, match=r"options\.limits: unknown key 'maxi'"):
        laser(cell=cell, limits={"maxi": 3.0})
    with pytest.raises(ControlError, match=r"the simulated laser has 'Laser\.Power'"):
        laser(cell=cell, property="Laser.Voltage")
    with pytest.raises(ControlError, match=r"actuator\.kind: no actuator 'lamp' \(known: "):
        open_actuator(ActuatorConfig(kind="lamp"))
    assert {"simulated", "micromanager", "running"} <= set(known_actuators())
