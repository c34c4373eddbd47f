"""What is known of the light, at any time and without waiting."""

from __future__ import annotations

from typing import NamedTuple


class GuardStatus(NamedTuple):
    """How things stand.

    Attributes
    ----------
    t_s : float
        The guard's clock (`time.monotonic`, which the machine's processes share) when it said so.
    value : float
        What the property read last, in its own unit.
    power : float
        The same as power (mW with a calibration, else as `value`).
    state : {"idle", "armed", "fault", "ended"}
    faults : tuple of str
        Latched, one line each, of the form "kind: what was found".
    n_writes : int
        Writes to the device, those to the safe value too.
    dose, dose_left : float
        Power times seconds since it was first armed; what is left (infinite without a budget).
    """

    t_s: float
    value: float
    power: float
    state: str
    faults: tuple[str, ...]
    n_writes: int
    dose: float
    dose_left: float
