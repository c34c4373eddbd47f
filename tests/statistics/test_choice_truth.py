"""How often "auto" finds the true number of states. Seeds fixed; the bound states its reason."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from livespt.infer import OnlineFilter

_spec = importlib.util.spec_from_file_location(
    "watch_scene", Path(__file__).with_name("watch_scene.py")
)
scenes = sys.modules["watch_scene"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)


@pytest.mark.long
@pytest.mark.parametrize("D", [(0.3,), (0.1, 0.5), (0.04, 0.2, 1.0)])
def test_the_true_number_of_states_is_found(D):
    """100 molecules x 400 frames, D 5 times apart: 10 of 10 were right; 9 leave room for one."""
    scene = scenes.Scene(n=100, D_um2_s=D, p_switch=0.02 if len(D) > 1 else 0.0, p_bleach=1e-3)
    right = 0
    for seed in range(10):
        online = OnlineFilter("auto", scenes.DT_S)
        for spots, links in scenes.stream(lambda _: scene, 400, seed):
            online.step(spots, links)
        right += online.n_states == len(D)
    assert right >= 9
