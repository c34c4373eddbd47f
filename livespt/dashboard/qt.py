"""The toolkit in one place: PySide6 first, so that pyqtgraph binds to it and to no other."""

# ruff: noqa: I001 - the order of these imports is the point
from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
import pyqtgraph as pg

__all__ = ["QtCore", "QtGui", "QtWidgets", "label", "pg"]


def label(name: str, text: str = "", colour: str = "") -> QtWidgets.QLabel:
    """Return a label that the style sheet knows by `name`."""
    made = QtWidgets.QLabel(text)
    made.setObjectName(name)
    if colour:
        made.setStyleSheet(f"color: {colour}")
    return made
