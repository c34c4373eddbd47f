"""Ready scenes: named sets of options. `Options` says what each field means."""

from __future__ import annotations

from typing import Any

from livespt_sim.options import EMCCD

_TWO_STATES: dict[str, Any] = {
    "D_um2_s": [0.1, 1.0],
    "rates_per_s": [[0.0, 0.9], [0.6, 0.0]],  # occupancy 0.4 / 0.6
}

_DEMO: dict[str, Any] = {
    **_TWO_STATES,
    "height_px": 256,
    "width_px": 256,
    "pixel_um": 0.1,
    "sigma_um": 0.1,
    "interval_s": 0.02,
    "exposure_s": 0.005,
    "molecules": 24.0,
    "photons": 500.0,
    "brightness_cv": 0.1,
    "off_per_s": 0.3,
    "on_per_s": 5.0,
    "bleach_per_s": 0.1,
    "background_e": 3.0,
    "camera": {"model": "scmos", "gain_adu_per_e": 2.2, "offset_adu": 100.0, "var_e2": 1.2},
}

SCENES: dict[str, dict[str, Any]] = {
    # what `livespt demo` shows: a membrane protein, free or slowed, on an sCMOS camera
    "demo": _DEMO,
    # the speed target: 200 molecules at 200 frames/s on 512 x 512
    "throughput": {
        **_DEMO,
        "height_px": 512,
        "width_px": 512,
        "interval_s": 0.005,
        "exposure_s": 0.004,
        "molecules": 200.0,
    },
    # the full chip of a large sCMOS camera at its full rate
    "full_chip": {
        **_DEMO,
        "height_px": 2048,
        "width_px": 2048,
        "interval_s": 0.01,
        "exposure_s": 0.009,
        "molecules": 500.0,
    },
    "emccd": {
        **_DEMO,
        "camera": EMCCD,
    },
    "ideal": {**_DEMO, "camera": {"model": "ideal"}},
    # Linden 2017: one molecule in a bacterium, 20 x 0.8 um, continuous exposure
    "cylinder": {
        "height_px": 32,
        "width_px": 288,
        "pixel_um": 0.08,
        "sigma_um": 0.09585,
        "interval_s": 0.005,
        "exposure_s": 0.005,
        "geometry": "cylinder",
        "molecules": 1.0,
        "D_um2_s": [0.1, 1.0],
        "rates_per_s": [[0.0, 10.0], [10.0, 0.0]],
        "photons": 300.0,
        "background_e": 0.95,
        "background_floor_e": 0.7,
        "background_tau_s": 0.46,
        "camera": EMCCD,
    },
    # few photons: what a blind detector loses
    "dim": {**_DEMO, "photons": 80.0, "background_e": 2.0, "brightness_cv": 0.2},
}
