"""The law: from what a window showed to the power that is wished for.

A law is any object with `decide(look, status) -> Wish`. Ours takes multiplicative steps on log
power towards its target: the error of log quality over the gain that `Response` has learned, most
of it at once, less far up than down, nothing within a deadband. It never raises on a window that is
in trouble, nor where a raise was seen to give nothing.

A wish is only a wish: the controller holds it to the budget and to one write a second, and the
guard process to its limits.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from livespt.control.errors import ControlError
from livespt.control.response import GAIN_OF_SBR, Response, gain_of_precision
from livespt.control.windows import Look

GROUP = "livespt.laws"

#: Share of the error that one step takes away.
SHARE = 0.8
#: Most by which a step lowers the power.
LARGEST_DOWN = 3.0
#: Having acted, go on until the error is this share of the deadband.
HYSTERESIS = 0.4
#: A gain below this is not worth its bleaching; physics says 1/2 and more.
LEAST_GAIN = 0.2
#: A raise must have been this large to say that it gave nothing.
LEAST_PROBE = 1.2
#: After that, how long the power is not raised, and by how much it is then tried again.
PATIENCE_S, PROBE = 30.0, 1.5
#: On bad windows: hold for so long, then fall towards safe with this time constant.
HOLD_S, FALL_S = 3.0, 5.0


class Wish(NamedTuple):
    """What a law wants: a power (None: leave it), and why, one line for a person."""

    power: float | None
    why: str


class Standing(Protocol):
    """What a law is told of the light: read-only, in the unit of the power."""

    @property
    def power(self) -> float:
        """What stands now."""
        ...

    @property
    def dose(self) -> float:
        """Unit times seconds since it was armed."""
        ...

    @property
    def dose_left(self) -> float:
        """What is left of the budget; inf without one."""
        ...


class Law(Protocol):
    """Anything that decides."""

    def decide(self, look: Look, status: Standing) -> Wish:
        """Return what the window calls for."""
        ...


class Bounds(NamedTuple):
    """Limits in the unit of the power, of which the guard has the last word."""

    min: float
    max: float
    safe: float
    step_up: float = 2.0


class TargetLaw:
    """Bring precision or SBR to a target and hold it.

    Parameters
    ----------
    target : float
        Localization precision in um (goal "precision"), or the SBR.
    bounds : Bounds
    goal : {"precision", "sbr"}
    deadband : float
        Relative error that is left alone.
    """

    def __init__(
        self, target: float, bounds: Bounds, *, goal: str = "precision", deadband: float = 0.05
    ) -> None:
        self.target, self.goal = target, goal
        self._bounds, self._deadband = bounds, deadband
        self._response: Response | None = None
        self._acting = False
        self._bad_s = 0.0
        self._power = math.nan  # of the last good window
        self._raised = (math.nan, math.nan)  # from where to where, of raises in a row
        self._ceiling, self._until_s = math.inf, -math.inf

    @property
    def response(self) -> Response | None:
        """What it has learned of the light; None before the first good window."""
        return self._response

    def measured(self, look: Look) -> float:
        """Return what the goal is about, of one window."""
        return look.sd_um if self.goal == "precision" else look.sbr

    def error(self, look: Look) -> float:
        """Return by how much ln quality falls short of the target (negative: too good)."""
        ratio = self.measured(look) / self.target
        return math.log(ratio) if self.goal == "precision" else -math.log(ratio)

    def decide(self, look: Look, status: Standing) -> Wish:
        """Return the power that the window calls for."""
        if look.trouble or not (self.measured(look) > 0 and look.power > 0):
            return self._in_trouble(look, status)
        self._bad_s = 0.0
        short = self.error(look)
        response = self._learn(look, short)
        if self._is_limited(look, response, short):
            return self._limited(look, response)
        return self._step(look, response, short)

    # --- good windows --------------------------------------------------------------------------

    def _learn(self, look: Look, short: float) -> Response:
        if self._response is None:
            known = gain_of_precision(look.sbr) if self.goal == "precision" else GAIN_OF_SBR
            self._response = Response(known)
        if look.power > 1.01 * self._power:
            first = self._raised[0] if self._raised[1] == self._power else self._power
            self._raised = (first, look.power)
        elif look.power < 0.99 * self._power:
            self._raised = (math.nan, math.nan)
        self._power = look.power
        self._response.see(look.t_s, look.power, -short, look.error)
        return self._response

    def _is_limited(self, look: Look, response: Response, short: float) -> bool:
        """Say whether the last raises have shown that more light gives nothing."""
        first, last = self._raised
        if short <= 0 or look.t_s < self._until_s:
            return False
        probed = last == look.power and last >= LEAST_PROBE * first
        return probed and response.gain + 0.5 * response.sd_gain < LEAST_GAIN

    def _limited(self, look: Look, response: Response) -> Wish:
        """Raise no more for a while; take back a raise that has made it worse."""
        first, _ = self._raised
        self._raised = (math.nan, math.nan)
        power = first if response.gain < 0 else look.power
        self._ceiling, self._until_s = power, look.t_s + PATIENCE_S
        self._acting = False
        why = (
            f"background-limited: twice the power would better the {self.goal} by "
            f"{100 * (2 ** max(response.gain, 0.0) - 1):.0f} %, not raised for {PATIENCE_S:.0f} s"
        )
        return Wish(power if power < look.power else None, why)

    def _step(self, look: Look, response: Response, short: float) -> Wish:
        limit = self._deadband * (HYSTERESIS if self._acting else 1.0)
        self._acting = abs(short) > limit
        said = self._say(look)
        if not self._acting:
            return Wish(None, f"{said}: held")
        ahead = short - response.drift_per_s * look.span_s  # where it will be by the next window
        step = SHARE * ahead / max(response.gain, LEAST_GAIN)
        if step * short < 0:
            return Wish(None, f"{said}: comes by itself")
        up, down = math.log(self._bounds.step_up), -math.log(LARGEST_DOWN)
        power = look.power * math.exp(min(max(step, down), up))
        power = min(max(power, self._bounds.min), self._bounds.max)
        if power > look.power:
            return self._raise(look, power, said)
        why = "too good for its price" if short < 0 else "at the limit of the power"
        return Wish(power if power < 0.999 * look.power else None, f"{said}: {why}")

    def _raise(self, look: Look, power: float, said: str) -> Wish:
        if look.t_s < self._until_s:
            if self._ceiling <= 1.01 * look.power:
                return Wish(None, f"{said}: background-limited, not raised")
            return Wish(min(power, self._ceiling), f"{said}: up to where it still helps")
        if math.isfinite(self._ceiling):  # once more, carefully: things may have changed
            power, self._ceiling = min(power, PROBE * look.power), math.inf
        return Wish(power if power > 1.001 * look.power else None, f"{said}: more light")

    def _say(self, look: Look) -> str:
        if self.goal == "sbr":
            return f"SBR {look.sbr:.2g} for {self.target:.2g}"
        return f"precision {1e3 * look.sd_um:.3g} nm for {1e3 * self.target:.3g} nm"

    # --- bad windows ---------------------------------------------------------------------------

    def _in_trouble(self, look: Look, status: Standing) -> Wish:
        """Hold for a little, then fall towards safe; never raise."""
        self._bad_s += look.span_s
        self._acting = False
        why = f"data {look.trouble or 'without a width'}"
        if look.trouble == "sparse":
            why = f"data sparse: {look.n_spots} spots in {look.span_s:.2g} s"
        power, safe = status.power, self._bounds.safe
        if self._bad_s <= HOLD_S or power <= safe:
            return Wish(None, f"{why}: held")
        fallen = safe + (power - safe) * math.exp(-look.span_s / FALL_S)
        fallen = safe if fallen - safe < 0.02 * power else fallen
        return Wish(fallen, f"{why} for {self._bad_s:.0f} s: towards safe")


def known_laws() -> list[str]:
    """Return the names that `open_law` accepts, sorted."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def open_law(name: str, options: dict[str, Any], bounds: Bounds, *, origin: str = "config") -> Law:
    """Open the law registered as `name`: a factory called with `(options, bounds)`.

    Raises
    ------
    ControlError
        No such law, or it cannot be loaded.
    """
    found = list(importlib.metadata.entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(known_laws()) or "none installed"
        raise ControlError(f"{origin}: control.law: no law '{name}' (known: {known})")
    try:
        factory: Callable[[dict[str, Any], Bounds], Law] = found[0].load()
    except ImportError as error:
        raise ControlError(f"{origin}: control.law: '{name}' cannot be loaded: {error}") from None
    return factory(options, bounds)
