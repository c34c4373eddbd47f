"""Whether the data can carry the answer, at one glance.

Three figures decide (SCIENCE 1 and 3):

- reduced localization error X = eps2 / (D dt) of each state: while X < 1 a step tells of motion;
  far above 1 it tells of noise, and only long tracks help;
- blur ratio sqrt(D tE / 3) / sigma0: below 0.5 a moving molecule keeps a round spot, above 1 it
  smears and dims;
- signal to background, photons / (4 pi sigma^2 b): below 1 the background rules the error.
"""

from __future__ import annotations

import math
import tomllib
from functools import lru_cache
from typing import NamedTuple

from livespt.dashboard.state import LiveState, Quality
from livespt.dashboard.words import state_name
from livespt.wire.schema import HelloMessage, ModelMessage

LEVELS = ("unknown", "good", "fair", "poor")
FEW_STEPS = 200


class Verdict(NamedTuple):
    """`level` is one of `LEVELS`; `text` gives the figures; `reasons` what spoils them."""

    level: str
    text: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Return all of it as one line."""
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{self.text}: {self.level}{why}"


def judge(quality: Quality, hello: HelloMessage, model: ModelMessage | None) -> Verdict:
    """Say what the data are like and whether they can carry the answer."""
    if not quality.n_spots or quality.precision_um <= 0:
        return Verdict("unknown", "no molecule seen yet", ())
    found = [_sbr(quality)]
    if model:
        found += [_error(quality, hello, model), _blur(hello, model), _amount(model)]
    worst = max((LEVELS.index(level) for level, _ in found), default=0)
    reasons = tuple(reason for level, reason in found if reason and level != "good")
    return Verdict(LEVELS[worst], _figures(quality, hello, model), reasons)


def judge_state(state: LiveState) -> Verdict:
    """Judge the newest of a running state."""
    if state.hello is None:
        return Verdict("unknown", "no run yet", ())
    return judge(state.quality, state.hello, state.model)


def step_px(D_um2_s: float, interval_s: float, pixel_um: float) -> float:
    """Return the root mean square displacement in the plane per frame, in pixels."""
    return math.sqrt(max(0.0, 4.0 * D_um2_s * interval_s)) / pixel_um


def _figures(quality: Quality, hello: HelloMessage, model: ModelMessage | None) -> str:
    parts = [f"precision {1e3 * quality.precision_um:.0f} nm"]
    if model:
        D_um2_s = model.D_um2_s
        steps = [f"{step_px(D, hello.interval_s, hello.pixel_um):.1f}" for D in D_um2_s]
        parts.append(f"steps {' / '.join(steps)} px")
    parts += [f"{quality.photons:.0f} photons", f"SBR {quality.sbr:.1f}"]
    return ", ".join(parts)


def _sbr(quality: Quality) -> tuple[str, str]:
    if quality.sbr >= 2:
        return "good", ""
    level = "fair" if quality.sbr >= 1 else "poor"
    return level, "background outshines the molecules"


def _error(quality: Quality, hello: HelloMessage, model: ModelMessage) -> tuple[str, str]:
    eps2 = quality.precision_um**2 * model.error_scale**2
    ratios = [eps2 / max(D * hello.interval_s, 1e-12) for D in model.D_um2_s]
    worst = max(ratios)
    if worst <= 1:
        return "good", ""
    name = state_name(ratios.index(worst), len(ratios))
    steps = f"the {name} state's steps are below the localization error"
    return ("fair" if worst <= 10 else "poor"), steps


def _blur(hello: HelloMessage, model: ModelMessage) -> tuple[str, str]:
    sigma_um = _psf_sigma_um(hello.config_toml)
    if not sigma_um:
        return "good", ""
    ratio = math.sqrt(max(model.D_um2_s) * hello.exposure_s / 3) / sigma_um
    level = "good" if ratio <= 1.0 else "fair" if ratio <= 2.0 else "poor"
    return level, f"the {state_name(len(model.D_um2_s) - 1, len(model.D_um2_s))} state is smeared"


def _amount(model: ModelMessage) -> tuple[str, str]:
    if model.n_steps >= FEW_STEPS and model.status == "ok":
        return "good", ""
    return "fair", f"{model.n_steps} steps so far"


@lru_cache(maxsize=8)
def _psf_sigma_um(config_toml: str) -> float:
    """Return the width of an in-focus spot that the run was told, 0 if it was told none.

    Read by hand and not through `livespt.config`, whose cameras would bring numba along and cost
    the window two seconds.
    """
    try:
        optics = tomllib.loads(config_toml).get("optics", {})
        sigma_um, aperture = optics.get("sigma_um", 0.0), optics.get("numerical_aperture", 0.0)
        if not sigma_um and aperture:
            sigma_um = 0.21 * optics.get("wavelength_um", 0.0) / aperture  # SCIENCE 1
        return float(sigma_um)
    except (tomllib.TOMLDecodeError, AttributeError, TypeError, ValueError):
        return 0.0  # a config of another version: judge without the blur
