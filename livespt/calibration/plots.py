"""Pictures of a calibration, for a person to look through before trusting it.

matplotlib comes with the extra `report` and is imported when a picture is drawn, not before. No
global state of it is touched: each figure is made and saved by itself.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.calibration import register
from livespt.calibration.errors import CalibrationError
from livespt.calibration.result import Calibration

BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#d9822b", "#3a8f5c", "#8a8f98"
_MANY = 20_000  # points of a cloud


def need_matplotlib() -> None:
    """Raise `CalibrationError` where matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise CalibrationError(
            f"--plots: '{error.name}' is not installed: pip install 'livespt[report]' brings it"
        ) from None


def draw_plots(result: Calibration, folder: Path) -> list[str]:
    """Draw all plots of a calibration into `folder`; return the files' names.

    Raises
    ------
    CalibrationError
        matplotlib is not installed, or the folder cannot be written.
    """
    need_matplotlib()
    figures = {}
    if result.pooled is not None:
        figures["mean-variance.png"] = _transfer_figure(result)
    if result.options.model == "scmos":
        figures["histograms.png"] = _histograms(result)
        figures["maps.png"] = _maps(result)
    else:
        figures["dark-counts.png"] = _dark_counts(result)
    figures["light.png"] = _light(result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=130)
    except OSError as error:
        raise CalibrationError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return [str(folder / name) for name in figures]


def _figure(n_rows: int, n_columns: int, width: float, height: float) -> tuple[Any, NDArray]:
    module = importlib.import_module("matplotlib.figure")
    figure = module.Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_2d(figure.subplots(n_rows, n_columns, squeeze=False))
    for axis in axes.ravel():
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_ticks(*axes: Any) -> None:
    """Label logarithmic axes 1, 2, 5, 10 ... in plain numbers."""
    ticker = importlib.import_module("matplotlib.ticker")
    for axis in axes:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())


# --- noise against light ---------------------------------------------------------------------


def _transfer_figure(result: Calibration) -> Any:
    assert result.pooled is not None
    assert result.lines is not None
    figure, axes = _figure(2, 1, 7.0, 6.4)
    above, below = axes[0, 0], axes[1, 0]
    slope, colours = result.pooled.slope, (BLUE, GREEN, ORANGE)
    dark_var = float(np.median(result.dark.var))
    names, deviations, errors, places = [], [], [], []
    for k, flat in enumerate(result.flats):
        use = result.lines.usable[k]
        pick = np.flatnonzero(use)[:: max(1, int(use.sum()) // _MANY)]
        s, v = result.lines.signal[k].ravel()[pick], flat.var.ravel()[pick]
        above.plot(s, v, ".", ms=2, alpha=0.15, color=colours[k % 3], rasterized=True)
        above.plot(np.median(s), np.median(v), "o", ms=7, color=colours[k % 3], mec="white")
        names.append(flat.path.name)
        places.append(float(np.median(s)))
        deviations.append(100 * (result.pooled.level_slope[k] / slope - 1))
        errors.append(100 * result.pooled.sd_level_slope[k] / slope)
    at = np.geomspace(0.4 * min(places), 2.0 * max(places), 50)
    what = "gain" if result.options.model == "scmos" else "excess factor x gain"
    label = f"dark variance {dark_var:.3g} + {slope:.4g} x signal ({what}, ADU/e$^-$)"
    above.plot(at, dark_var + slope * at, color="black", lw=1.2, label=label)
    above.set(xscale="log", yscale="log", ylabel="temporal variance (ADU$^2$)")
    above.set_xlim(at[0], at[-1])
    above.set_ylim(0.3 * (dark_var + slope * at[0]), 4 * (dark_var + slope * at[-1]))
    above.set_title("Photon transfer: one point per pixel and level", loc="left")
    above.legend(frameon=False, loc="upper left")
    below.axhline(0, color="black", lw=1)
    below.errorbar(places, deviations, yerr=errors, fmt="o", color=BLUE, capsize=4)
    for x, y, name in zip(places, deviations, names, strict=True):
        below.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", color=GREY, size=8)
    reach = 1.4 * max(1.0, *(abs(d) + e for d, e in zip(deviations, errors, strict=True)))
    below.set(xscale="log", xlim=(at[0], at[-1]), ylim=(-reach, reach))
    _plain_ticks(above.xaxis, below.xaxis, above.yaxis)
    below.set(xlabel="signal: mean - offset (ADU)", ylabel="this level's slope\nabove the line (%)")
    return figure


# --- sCMOS -----------------------------------------------------------------------------------


def _histograms(result: Calibration) -> Any:
    assert result.lines is not None
    assert result.pooled is not None
    assert result.file.bad is not None
    good = ~result.file.bad
    values = result.file.values
    figure, axes = _figure(2, 2, 9.0, 6.4)
    own = result.lines.slope[good]
    offset, var_e2, gain = (
        np.asarray(values[key])[good] for key in ("offset_adu", "var_e2", "gain_adu_per_e")
    )
    _histogram(axes[0, 0], offset, "offset (ADU)")
    read = np.sqrt(var_e2)
    _histogram(axes[0, 1], read, "read noise (e$^-$ rms)", log=True)
    _gains(axes[1, 0], own, gain)
    axes[1, 0].axvline(result.pooled.slope, color="black", lw=1)
    z = (own - result.pooled.slope) / np.hypot(result.lines.sd_slope[good], result.pooled.spread)
    edges = np.linspace(-5, 5, 81)
    share = np.histogram(z, edges)[0] / max(z.size, 1) / (edges[1] - edges[0])
    axes[1, 1].stairs(share, edges, fill=True, color=BLUE, alpha=0.7)
    axes[1, 1].plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="black", lw=1)
    axes[1, 1].set(xlabel="gain: (pixel - mean) / expected s.d.", ylabel="density")
    axes[1, 1].set_title("line: standard normal", loc="right", size=9, color=GREY)
    return figure


def _gains(axis: Any, own: NDArray, kept: NDArray) -> None:
    low, high = np.quantile(own, (0.002, 0.998))
    edges = np.linspace(low, high + 1e-9, 80)
    axis.hist(own, edges, color=GREY, alpha=0.6, label="each pixel's own")
    if float(np.ptp(kept)) > 0:
        axis.hist(kept, edges, histtype="step", color=BLUE, lw=1.5, label="in the file")
    else:
        axis.axvline(float(kept[0]), color=BLUE, lw=1.5, label="in the file")
    axis.set(xlabel="gain (ADU/e$^-$)", ylabel="pixels")
    axis.legend(frameon=False)


def _histogram(axis: Any, values: NDArray, label: str, *, log: bool = False) -> None:
    low, high = np.quantile(values, (0.0005, 0.9995))
    if log:
        edges = np.geomspace(max(low, 1e-3), max(high, 2e-3), 80)
        axis.set_xscale("log")
        axis.set_yscale("log")
        _plain_ticks(axis.xaxis)
    else:
        edges = np.linspace(low, high + 1e-9, 80)
    axis.hist(values, edges, color=BLUE, alpha=0.7)
    middle = float(np.median(values))
    axis.axvline(middle, color="black", lw=1)
    axis.set(xlabel=label, ylabel="pixels")
    axis.set_title(f"median {middle:.4g}", loc="right", size=9, color=GREY)


def _maps(result: Calibration) -> Any:
    values = result.file.values
    figure, axes = _figure(1, 3, 13.0, 4.2)
    shown = (
        ("offset_adu", "offset (ADU)", np.asarray),
        ("var_e2", "read noise (e$^-$ rms)", np.sqrt),
        ("gain_adu_per_e", "gain (ADU/e$^-$)", np.asarray),
    )
    for axis, (key, label, turned) in zip(axes[0], shown, strict=True):
        image = turned(np.asarray(values[key]))
        low, high = np.quantile(image, (0.01, 0.99))
        drawn = axis.imshow(image, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
        axis.set(xlabel="x (px)", ylabel="y (px)")
        axis.set_title(label, loc="left")
        figure.colorbar(drawn, ax=axis, shrink=0.85, extend="both")
    assert result.file.bad is not None
    y, x = np.nonzero(result.file.bad)
    axes[0, 2].plot(x, y, "s", ms=4, mfc="none", mec="red", mew=0.8)
    if y.size:
        axes[0, 2].set_title(f"red: {y.size} bad", loc="right", color="red", size=9)
    return figure


# --- EMCCD -----------------------------------------------------------------------------------


def _dark_counts(result: Calibration) -> Any:
    assert result.mixture is not None
    assert result.dark.histogram is not None
    found, number = result.mixture, result.dark.histogram
    counts = np.arange(*(np.flatnonzero(number)[[0, -1]] + [0, 1]))
    number = number[counts]
    figure, axes = _figure(1, 1, 7.5, 4.6)
    axis = axes[0, 0]
    axis.stairs(number, np.append(counts - 0.5, counts[-1] + 0.5), fill=True, color=GREY, alpha=0.5)
    scale = found.scale_adu or 1.0
    theta = np.array(
        [found.offset_adu, np.log(found.readout_adu), np.log(found.spurious_e), np.log(scale)]
    )
    total = number.sum()
    axis.plot(counts, total * register.mixture(counts, theta), color="black", lw=1.3, label="fit")
    alone = theta.copy()
    alone[2] = np.log(1e-12)
    none = np.exp(-found.spurious_e) * register.mixture(counts, alone)
    axis.plot(counts, total * none, color=BLUE, lw=1.3, ls="--", label="readout noise alone")
    axis.set(yscale="log", xlabel="count (ADU)", ylabel="pixels x frames")
    axis.set_ylim(0.5, 2 * number.max())
    axis.set_title(
        f"offset {found.offset_adu:.1f}, readout {found.readout_adu:.3g} ADU; "
        f"{found.spurious_e:.2g} e$^-$ of {found.scale_adu:.3g} ADU each per pixel and frame",
        loc="left",
        size=9,
    )
    axis.legend(frameon=False)
    return figure


# --- both ------------------------------------------------------------------------------------


def _light(result: Calibration) -> Any:
    figure, axes = _figure(2, 1, 7.0, 5.2)
    above, below = axes[0, 0], axes[1, 0]
    for k, flat in enumerate(result.flats):
        signal = flat.frame_mean - result.dark.frame_mean.mean()
        change = 100 * (signal / signal.mean() - 1)
        above.plot(change, lw=0.9, color=(BLUE, GREEN, ORANGE)[k % 3], label=flat.path.name)
    above.set(ylabel="light of a frame\n(% from the mean)")
    if result.flats:
        above.margins(y=0.2)
        above.legend(frameon=False, ncols=3, loc="upper right", fontsize=8)
    else:
        above.set_title("no flat series", loc="left", color=GREY)
    below.plot(result.dark.frame_mean, lw=0.9, color=GREY)
    below.set(xlabel="frame", ylabel="mean of a dark\nframe (ADU)")
    below.ticklabel_format(useOffset=False)
    return figure
