"""Colours that both faces share, safe for the colour-blind on a dark ground.

The states take four colours of Okabe and Ito's set (2008), from slow to fast, chosen so that
neighbours differ in lightness as well as in hue.
"""

from __future__ import annotations

#: Slow to fast: sky blue, orange, bluish green, reddish purple (lightened for a dark ground).
STATE_COLOURS = ("#56B4E9", "#E69F00", "#2BC48A", "#E58BC1")

GOOD = "#2BC48A"
WARN = "#F0C808"
BAD = "#FF6B4A"
CALM = "#8FA3B5"  # text of second rank
TEXT = "#E8EEF3"
GROUND = "#10151A"
PANEL = "#182028"
EDGE = "#2A3540"
ACCENT = "#56B4E9"

#: Colour of each `StatusMessage.state`.
RUN_STATE_COLOURS = {
    "waiting": CALM,
    "compiling": WARN,
    "running": GOOD,
    "stalled": WARN,
    "finishing": ACCENT,
    "done": ACCENT,
    "failed": BAD,
}

#: Colour of each level that `quality.judge` and `state.Drop` may have.
LEVEL_COLOURS = {"good": GOOD, "fair": WARN, "poor": BAD, "unknown": CALM}

#: Kinds of event, and names of marks, that deserve a colour (the rest are calm). Spots out of focus
#: spoil what is being recorded; the other marks say that it is time to do something else.
EVENT_COLOURS = {
    "missing": BAD,
    "overflow": BAD,
    "failed": BAD,
    "unsaved": BAD,
    "shed": WARN,
    "stalled": WARN,
    "shape": WARN,
    "timestamp": WARN,
    "changed": WARN,
    "bleached": WARN,
    "dense": WARN,
    "imprecise": WARN,
    "defocused": BAD,
    "control": ACCENT,
    "resumed": GOOD,
    "ended": ACCENT,
    "stopped": ACCENT,
}


def state_colour(state: int) -> str:
    """Return the colour of motion state `state` (0 is the slowest)."""
    return STATE_COLOURS[state % len(STATE_COLOURS)]
