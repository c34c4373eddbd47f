"""Which slot a track has: a table of names, found again in one or two looks.

A name begins to look at a place of its own, and goes on to the next until it finds itself or a free
one (open addressing). The table is never more than half full. Names are >= 0; `FREE` marks a place
without one.
"""

from __future__ import annotations

from livespt.infer.arrays import Ints
from livespt.jit import brief_kernel, kernel

FREE, NONE, TWICE = -1, -1, -2
#: Spreads names that follow each other: 2^32 over the golden ratio, times at most 2^31 - 1.
SPREAD, MOST = 0x9E3779B1, 0x7FFFFFFF


@kernel
def place_of(names: Ints, name: int) -> int:
    """Return where `name` stands, or where it would be put."""
    last = names.shape[0] - 1
    at = (((name & MOST) * SPREAD) >> 16) & last
    while names[at] != FREE and names[at] != name:
        at = (at + 1) & last
    return at


@brief_kernel
def find(names: Ints, slots: Ints, wanted: Ints, stamp: Ints, out: Ints) -> int:
    """Write the slot of each wanted name, `NONE` where it has none yet; return how many have none.

    `TWICE` is returned where a slot is found twice. `stamp` (1 + capacity,) tells: its first
    number counts the calls, the others hold the call that last found the slot.
    """
    stamp[0] += 1
    missing = 0
    for i in range(wanted.shape[0]):
        at = place_of(names, wanted[i])
        if names[at] == FREE:
            out[i] = NONE
            missing += 1
            continue
        slot = slots[at]
        if stamp[1 + slot] == stamp[0]:
            return TWICE
        stamp[1 + slot] = stamp[0]
        out[i] = slot
    return missing


@brief_kernel
def put(names: Ints, slots: Ints, name: int, slot: int) -> None:
    """Give a name its slot."""
    at = place_of(names, name)
    names[at], slots[at] = name, slot


@brief_kernel
def drop(names: Ints, slots: Ints, ended: Ints, out: Ints) -> int:
    """Take names off the table, those that stand there; write their slots; return how many."""
    last, n = names.shape[0] - 1, 0
    for name in ended:
        at = place_of(names, name)
        if names[at] == FREE:
            continue
        out[n] = slots[at]
        n += 1
        names[at] = FREE
        at = (at + 1) & last
        while names[at] != FREE:  # those behind may have had to look past it
            moved, slot = int(names[at]), int(slots[at])
            names[at] = FREE
            put(names, slots, moved, slot)
            at = (at + 1) & last
    return n
