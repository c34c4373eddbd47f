"""The window's look: one dark style sheet, sized to be read from two metres."""

from __future__ import annotations

from livespt.dashboard.palette import ACCENT, BAD, CALM, EDGE, GROUND, PANEL, TEXT

FONTS = '"Inter", "Segoe UI", "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif'
FIXED = '"JetBrains Mono", "Consolas", "Menlo", "DejaVu Sans Mono", monospace'

STYLE_SHEET = f"""
QWidget {{ background: {GROUND}; color: {TEXT}; font-family: {FONTS}; font-size: 14px; }}
QFrame#panel {{ background: {PANEL}; border: 1px solid {EDGE}; border-radius: 8px; }}
QFrame#panel QLabel, QFrame#panel QWidget {{ background: transparent; }}
QLabel#brand {{ color: {ACCENT}; font-size: 22px; font-weight: 700; }}
QLabel#run {{ font-size: 22px; font-weight: 600; }}
QLabel#source {{ color: {CALM}; font-size: 15px; }}
QLabel#light {{ font-size: 15px; font-weight: 600; }}
QLabel#clock {{ font-size: 26px; font-weight: 600; }}
QLabel#pill {{ font-size: 18px; font-weight: 700; border-radius: 14px; padding: 3px 14px; }}
QLabel#caption {{ color: {CALM}; font-size: 13px; }}
QLabel#title {{ color: {CALM}; font-size: 13px; font-weight: 600; }}
QLabel#state {{ font-size: 17px; font-weight: 700; }}
QLabel#unit {{ color: {CALM}; font-size: 15px; }}
QLabel#interval {{ color: {CALM}; font-size: 15px; }}
QLabel#verdict {{ font-size: 16px; }}
QLabel#figure {{ font-size: 19px; font-weight: 600; }}
QLabel#cell {{ font-size: 17px; }}
QPushButton#stop {{ background: transparent; color: {BAD}; border: 2px solid {BAD};
    border-radius: 8px; padding: 6px 18px; font-size: 16px; font-weight: 700; }}
QPushButton#stop:hover, QPushButton#stop[armed="true"] {{ background: {BAD}; color: {GROUND}; }}
QPushButton#stop:disabled {{ color: {EDGE}; border-color: {EDGE}; background: transparent; }}
QProgressBar {{ background: {PANEL}; border: 1px solid {EDGE}; border-radius: 6px;
    text-align: center; font-size: 15px; font-weight: 600; min-height: 24px; }}
QProgressBar::chunk {{ background: #2C6E93; border-radius: 5px; }}
QListWidget {{ background: {PANEL}; border: 1px solid {EDGE}; border-radius: 8px;
    font-family: {FIXED}; font-size: 13px; padding: 4px; }}
QSplitter::handle {{ background: {GROUND}; }}
"""
