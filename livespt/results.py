"""What a run leaves in one object: the live answer, the final one, and how it went."""

from __future__ import annotations

from typing import Any, NamedTuple

from livespt.types import Model


class RunResult(NamedTuple):
    """The result of `Session.run`.

    Attributes
    ----------
    live, final : Model or None
        The last live answer, and the final pass's; None where there was nothing to answer from.
    truth : dict or None
        `D_um2_s` and `occupancy`, from a source that knows them.
    localization : dict
        `n_spots`, `median_sd_um`, `median_photons`; with a truth also `rmse_over_crlb`, `z_sd`
        and what they rest on.
    frames : dict
        `in`, `processed`, `shed`, `missing`.
    latency_ms : dict
        `p50`, `p99`: frame received to estimate published.
    seconds : dict
        `stream` and `final`: how long each took.
    run : str
        The run folder.
    failed : str
        Why the stream ended early, "" if it did not.
    control : dict or None
        `mode`, `goal`, `target`, `measured`, `reached_s`, `writes`, `power`, `unit`,
        `reference_power`, `dose`, `dose_left`, `faults`; None where the light was not controlled.
    raw : dict or None
        `path` of the raw file, its `parts`, `frames` in it, frames `unsaved`, `bytes`, and the
        `trouble` that ended saving, if any; None where raw frames were not saved.
    """

    live: Model | None
    final: Model | None
    truth: dict[str, list[float]] | None
    localization: dict[str, float]
    frames: dict[str, int]
    latency_ms: dict[str, float]
    seconds: dict[str, float]
    run: str
    failed: str = ""
    control: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, as ``--json`` prints them."""
        return {
            **({"truth": self.truth} if self.truth else {}),
            "live": model_json(self.live),
            "final": model_json(self.final),
            "localization": self.localization,
            "frames": self.frames,
            "latency_ms": self.latency_ms,
            "seconds": self.seconds,
            "run": self.run,
            "control": self.control or {"mode": "off"},
            "raw": self.raw,
            **({"failed": self.failed} if self.failed else {}),
        }

    def lines(self) -> list[str]:
        """Return what a person wants to know besides the table."""
        frames = self.frames
        found = self.localization
        lines = [
            f"frames: {frames['in']} in, {frames['processed']} processed, "
            f"{frames['shed']} shed, {frames['missing']} missing; "
            f"latency p50 {self.latency_ms['p50']:.1f} ms, p99 {self.latency_ms['p99']:.1f} ms",
            f"localization: {found['n_spots']} spots, median precision "
            f"{1e3 * found['median_sd_um']:.0f} nm, {found['median_photons']:.0f} photons"
            + (
                f"; error / Cramer-Rao bound {found['rmse_over_crlb']:.2f}, "
                f"error / reported s.d. {found['z_sd']:.2f}"
                if "z_sd" in found
                else ""
            ),
            f"run folder: {self.run}",
        ]
        if self.raw:
            lines.insert(1, raw_line(self.raw))
        if self.control:
            lines.insert(2, control_line(self.control))
        return [f"FAILED: {self.failed}", *lines] if self.failed else lines


def control_line(control: dict[str, Any]) -> str:
    """Return what became of the light in one line."""
    unit, reached_s = control["unit"], control["reached_s"]
    reached = "not reached" if reached_s is None else f"reached after {reached_s:.1f} s"
    left = control["dose_left"]
    parts = [
        f"control: {control['mode']}, target {reached}, {control['writes']} writes",
        f"power {control['power']:.3g} {unit}, dose {control['dose']:.4g} {unit} s"
        + ("" if left is None else f" ({left:.4g} left)"),
        *(f"FAULT {fault}" for fault in control["faults"]),
    ]
    return ", ".join(parts)


def raw_line(raw: dict[str, Any]) -> str:
    """Return what became of the raw frames in one line."""
    line = f"raw: {raw['frames']} frames saved ({raw['bytes'] / 1e9:.3g} GB), "
    line += f"{raw['unsaved']} not saved"
    return line + (f"; {raw['trouble']}" if raw["trouble"] else "")


def model_json(model: Model | None) -> dict[str, Any] | None:
    """Return a model as ``--json`` prints it: states ordered by D, pairs for intervals."""
    if model is None:
        return None
    return {
        "D_um2_s": model.D_um2_s.tolist(),
        "D_95": model.D_95.tolist(),
        "occupancy": model.occupancy.tolist(),
        "occupancy_95": model.occupancy_95.tolist(),
        "p_switch": model.p_switch.tolist(),
        "p_switch_95": model.p_switch_95.tolist(),
        "rate_per_s": model.rate_per_s.tolist(),
        "error_scale": float(model.error_scale),
        "error_scale_95": model.error_scale_95.tolist(),
        "interval_s": float(model.interval_s),
        "n_steps": int(model.n_steps),
        "n_tracks": int(model.n_tracks),
        "status": model.status,
    }
