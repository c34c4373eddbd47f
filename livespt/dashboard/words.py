"""Numbers as a person reads them: as many digits as the interval supports, and no more."""

from __future__ import annotations

import math

from livespt.wire.schema import ControlMessage, EventMessage


def digits_for(value: float, interval: tuple[float, float] | None) -> int:
    """Return how many decimals `value` deserves: two figures of the interval's half width."""
    if interval is None or not all(math.isfinite(v) for v in (value, *interval)):
        return 3
    spread = max(abs(interval[1] - interval[0]) / 2, abs(value) * 1e-4, 1e-12)
    return min(6, max(0, 1 - math.floor(math.log10(spread))))


def number(value: float, decimals: int = 3) -> str:
    """Return `value` with `decimals`, at least two and at most four figures where it is small."""
    if math.isinf(value):
        return "∞"
    if math.isnan(value):
        return "-"
    if value and abs(value) < 10 ** (1 - decimals):
        return f"{value:.2g}"
    return f"{value:.{decimals}f}"


def estimate(value: float, interval: tuple[float, float] | None) -> str:
    """Return the value alone, to the digits that its interval supports."""
    return number(value, digits_for(value, interval))


def headline(value: float) -> str:
    """Return three figures of `value`, for the big numbers."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def span(interval: tuple[float, float], value: float | None = None) -> str:
    """Return "low - high" with the digits of the estimate that the interval belongs to."""
    low, high = interval
    decimals = digits_for(low if value is None else value, interval)
    return f"{number(low, decimals)} – {number(high, decimals)}"


def percent(value: float) -> str:
    """Return a fraction as whole per cent."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else "-"


def percent_span(interval: tuple[float, float]) -> str:
    """Return an interval of a fraction as "low - high %", with a decimal where it is narrow."""
    decimals = 1 if interval[1] - interval[0] < 0.03 else 0
    return f"{100 * interval[0]:.{decimals}f} – {100 * interval[1]:.{decimals}f} %"


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    whole = max(0, int(seconds)) if math.isfinite(seconds) else 0
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def size(n_bytes: float) -> str:
    """Return a number of bytes as kB, MB or GB."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def rate(per_s: float) -> str:
    """Return a rate in 1/s with two or three figures."""
    return f"{per_s:.3g}" if per_s < 100 else f"{per_s:.0f}"


def event_word(event: EventMessage) -> str:
    """Return the one word that an event goes by: its kind, and of a mark its name."""
    return event.name if event.kind == "mark" else event.kind


def light(control: ControlMessage) -> str:
    """Return mode, power, target and what is left of the dose."""
    parts = [f"{control.mode} {control.state}", f"{control.power:.3g} {control.unit}"]
    if control.target:
        scale, unit = (1e3, " nm") if control.goal == "precision" else (1.0, "")
        now = f"{scale * control.measured:.3g}" if control.measured else "-"
        parts.append(f"{control.goal} {now} for {scale * control.target:.3g}{unit}")
    if math.isfinite(control.dose_left):
        whole = control.dose + control.dose_left
        share = control.dose_left / whole if whole else 0.0
        parts.append(f"dose left {percent(share)}")
    return ", ".join(parts)


def state_name(state: int, n_states: int) -> str:
    """Return "slow", "fast" and so on where the number of states has such words."""
    names = {
        1: ("all",),
        2: ("slow", "fast"),
        3: ("slow", "middle", "fast"),
        4: ("slowest", "slow", "fast", "fastest"),
    }
    known = names.get(n_states, ())
    return known[state] if state < len(known) else f"state {state + 1}"
