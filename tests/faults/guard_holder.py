"""An analysis that holds a guard, until it is killed.

    python guard_holder.py FOLDER [asking]

It arms the simulated laser of FOLDER/cell, says so, beats, and with "asking" wishes for other
powers all the time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from livespt.control import GuardHandle
from livespt.sections import ActuatorConfig


def hold(folder: Path, asking: bool) -> None:
    config = ActuatorConfig(options={"cell": str(folder / "cell")})
    with GuardHandle(config, folder=folder) as handle:
        handle.arm()
        print("armed", handle.pid, flush=True)  # noqa: T201
        n = 0
        while True:
            handle.beat(time.monotonic())
            n += 1
            if asking:
                handle.ask(0.9 * 0.999 ** (n % 2000), "down")
            time.sleep(0.003 if asking else 0.05)


if __name__ == "__main__":
    hold(Path(sys.argv[1]), "asking" in sys.argv)
