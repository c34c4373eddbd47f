"""Frames of a real MMCore's DemoCamera in mode Noise: noise that our own model did not draw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from livespt.cli import main

pytest.importorskip("pymmcore_plus")
pytest.importorskip("mm_test_adapters")

pytestmark = pytest.mark.alone

RECORD = """
import sys
import numpy as np
from livespt.sources import open_source
from livespt.types import Frame

# no flux below 2 per ms: an exposure of 1 us is dark
for name, exposure_ms, n in (("dark", 0.001, 200), ("flat-1", 2.0, 150), ("flat-2", 8.0, 150)):
    source = open_source("mmcore", {
        "n_frames": n, "exposure_ms": exposure_ms, "interval_ms": 8.0, "roi": [0, 0, 64, 64],
        "properties": {
            "Camera.PixelType": "16bit", "Camera.BitDepth": "16", "Camera.Mode": "Noise",
            "Camera.Photon Conversion Factor": 0.46, "Camera.Photon Flux": 10.0,
            "Camera.ReadNoise (electrons)": 2.5,
        },
    })
    frames = [item.adu.copy() for item in source.frames() if isinstance(item, Frame)]
    source.close()
    np.save(f"{name}.npy", np.stack(frames))
    print(source.info.identity)
"""


@pytest.mark.long
def test_the_demo_cameras_own_settings_are_found(tmp_path, monkeypatch, capsys):
    """0.46 e-/ADU, 2.5 e- of read noise, offset 100; a gain of 4096 pixels is known to 0.2 %.

    Its offset is cut to whole counts, not rounded: half a count is allowed for that.
    """
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", RECORD], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    identity = done.stdout.splitlines()[-1]
    line = ["calibrate", "--dark", "dark.npy", "--flat", "flat-1.npy", "--flat", "flat-2.npy"]
    line += ["--out", "cal.npz", "--expected-gain", "0.46", "--camera-id", identity, "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gain_e_per_adu"] == pytest.approx(0.46, rel=0.01)
    assert found["read_noise_e"] == pytest.approx(2.5, rel=0.02)
    assert found["offset_adu"] == pytest.approx(100.0, abs=0.7)
    assert found["bad_pixels"] == 0
    assert any("looks inverted: 0.46 e-/ADU is 2.17 ADU/e-" in note for note in found["notes"])
    Path("run.toml").write_text(
        "[source]\nkind = 'mmcore'\n[source.options]\nexposure_ms = 2.0\nroi = [0, 0, 64, 64]\n"
        "[source.options.properties]\n'Camera.PixelType' = '16bit'\n"
        "[camera]\ncalibration = 'cal.npz'\n[optics]\npixel_um = 0.1\nsigma_um = 0.1\n"
    )
    check = [sys.executable, "-m", "livespt", "check", "run.toml", "--json"]
    said = subprocess.run(check, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["identity"] == identity
