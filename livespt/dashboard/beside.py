"""The window as a process of its own, beside the run that it shows."""

from __future__ import annotations

import subprocess
import sys

from livespt.dashboard.app import DashboardError
from livespt.wire import Publisher


def open_window(wire: Publisher | None) -> subprocess.Popen[bytes]:
    """Open the window on what a run publishes; it stays when the run is over.

    Raises
    ------
    DashboardError
        The run publishes nothing.
    """
    if wire is None:
        raise DashboardError("wire.enabled: the dashboard needs the wire")
    command = [sys.executable, "-m", "livespt", "dashboard"]
    command += ["--publish", wire.publish_address, "--command", wire.command_address]
    # a group of its own: Ctrl-C ends the run and leaves the window with its answer
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
    return subprocess.Popen(command, start_new_session=True)
