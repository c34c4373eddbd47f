"""The window as a process of its own; Qt is imported only once `main` runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from livespt.dashboard.feed import Feed
from livespt.types import LivesptError

PUBLISH = "tcp://127.0.0.1:5570"
COMMAND = "tcp://127.0.0.1:5571"

#: Debian and Ubuntu packages that Qt loads and a bare machine may lack.
QT_PACKAGES = (
    "libegl1 libgl1 libx11-6 libxkbcommon0 libdbus-1-3 libfontconfig1 libfreetype6 "
    "libglib2.0-0 fonts-dejavu-core"
)
#: And those of the xcb platform, for a window on a real screen.
XCB_PACKAGES = (
    "libx11-xcb1 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 "
    "libxcb-render-util0 libxcb-shape0 libxcb-shm0 libxcb-sync1 libxcb-util1 libxcb-xfixes0 "
    "libxcb-xkb1 libxkbcommon-x11-0"
)


class DashboardError(LivesptError):
    """The window cannot be opened on this machine; the message says what it lacks."""


def main(
    publish: str = PUBLISH,
    command: str = COMMAND,
    *,
    screenshot: str | Path | None = None,
    after_s: float = 5.0,
) -> int:
    """Open the window and return its exit code when it is closed.

    Parameters
    ----------
    publish, command : str
        The publisher's addresses. It may come later, go and come back.
    screenshot : path, optional
        Write a picture there after `after_s` seconds and leave; needs no screen.
    after_s : float
        When to take it.

    Returns
    -------
    int
        0, or 2 where the window could not be opened (one line on standard error says why).
    """
    try:
        check_machine(headless=screenshot is not None)
        return _run(publish, command, None if screenshot is None else Path(screenshot), after_s)
    except LivesptError as error:
        sys.stderr.write(f"livespt dashboard: {error}\n")
        return 2


def check_machine(*, headless: bool = False) -> None:
    """Find out whether Qt can start here, before Qt would abort the process.

    Raises
    ------
    DashboardError
        No PySide6 or pyqtgraph, a missing system library, or no screen.
    """
    for package in ("PySide6", "pyqtgraph"):
        if importlib.util.find_spec(package) is None:
            raise DashboardError(f"{package} is not installed: pip install 'livespt[dashboard]'")
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        raise DashboardError(f"{error}; on Debian: apt install {QT_PACKAGES}") from None
    if headless:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
        raise DashboardError("no screen (DISPLAY is not set): use the terminal view instead")


@contextlib.contextmanager
def _interruptible(leave: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C close the window: Qt's loop would not look at it, the window's timer does."""
    before = signal.signal(signal.SIGINT, lambda *_: leave())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(publish: str, command: str, screenshot: Path | None, after_s: float) -> int:
    from livespt.dashboard.qt import QtCore, QtWidgets
    from livespt.dashboard.window import DashboardWindow

    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["livespt"])
    with Feed(publish, command) as feed, _interruptible(app.quit):
        window = DashboardWindow(feed)
        window.show()
        if screenshot is not None:
            QtCore.QTimer.singleShot(round(1000 * after_s), app.quit)
        code = app.exec()
        if screenshot is not None:
            window.grab_png(screenshot)
        window.close()
    return code
