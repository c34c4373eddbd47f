"""Messages of a run that never was: sound in every field, with numbers that behave like a run's."""

from __future__ import annotations

import numpy as np

from livespt.types import track_dtype
from livespt.wire.schema import (
    ControlMessage,
    EstimateMessage,
    EventMessage,
    FinalMessage,
    HelloMessage,
    ImageMessage,
    ModelMessage,
    StatusMessage,
    Table,
)

D_TRUE = {1: [0.3], 2: [0.08, 1.0], 3: [0.02, 0.25, 2.0], 4: [0.01, 0.08, 0.6, 3.0]}
OCCUPANCY = {1: [1.0], 2: [0.6, 0.4], 3: [0.45, 0.35, 0.2], 4: [0.4, 0.3, 0.2, 0.1]}
INTERVAL_S = 0.02
PIXEL_UM = 0.1
SHAPE = (128, 160)  # height and width differ, so that a swapped axis shows
CONFIG_TOML = "[optics]\npixel_um = 0.1\nwavelength_um = 0.64\nnumerical_aperture = 1.4\n"


class Scene:
    """A run of `n_states` and `n_tracks` molecules; each `make_...` gives the next message."""

    def __init__(self, n_states: int = 2, n_tracks: int = 40, run: str = "run-a", seed: int = 7):
        self.n_states, self.run = n_states, run
        self.rng = np.random.default_rng(seed)
        self.seq = 0
        self.frame = 0
        height, width = SHAPE
        self.box = PIXEL_UM * np.array([width, height], float)
        self.xy = self.rng.uniform(0.05, 0.95, (n_tracks, 2)) * self.box
        self.state = self.rng.choice(n_states, n_tracks, p=OCCUPANCY[n_states])
        self.ids = np.arange(n_tracks)

    @property
    def t_s(self) -> float:
        return self.frame * INTERVAL_S

    def head(self) -> dict:
        self.seq += 1
        return {"seq": self.seq, "run": self.run}

    def move(self) -> None:
        """Take all molecules one frame further; a few are replaced."""
        self.frame += 1
        D = np.array(D_TRUE[self.n_states])[self.state]
        self.xy += self.rng.normal(size=self.xy.shape) * np.sqrt(2 * D * INTERVAL_S)[:, None]
        self.xy = np.abs(self.xy)
        self.xy = self.box - np.abs(self.box - self.xy)
        new = self.rng.random(len(self.xy)) < 0.01
        self.ids[new] = self.ids.max() + 1 + np.arange(new.sum())
        self.xy[new] = self.rng.random((new.sum(), 2)) * self.box

    def model(self, n_steps: int) -> ModelMessage:
        K, shrink = self.n_states, 0.9 / np.sqrt(1 + n_steps / 60)
        wobble = np.exp(self.rng.normal(size=K) * shrink * 0.05)
        drift = np.exp(shrink * np.cos(np.arange(K) * 2.0))
        D = np.array(D_TRUE[K]) * drift * wobble
        occupancy = np.array(OCCUPANCY[K]) * np.exp(shrink * 0.3 * np.sin(np.arange(K)))
        occupancy /= occupancy.sum()
        p = np.full((K, K), 0.03)
        np.fill_diagonal(p, 1 - 0.03 * (K - 1))
        rate = (p - np.eye(K)) / INTERVAL_S
        half = float(shrink) * 0.4
        return ModelMessage(
            D_um2_s=D.tolist(),
            D_95=[(d * float(np.exp(-shrink)), d * float(np.exp(shrink))) for d in D.tolist()],
            occupancy=occupancy.tolist(),
            occupancy_95=[(max(0.0, o - half), min(1.0, o + half)) for o in occupancy.tolist()],
            p_switch=p.tolist(),
            p_switch_95=[[(v / 2, min(1.0, 2 * v)) for v in row] for row in p.tolist()],
            rate_per_s=rate.tolist(),
            error_scale=1.02,
            error_scale_95=(0.95, 1.1),
            occupancy_lag=[occupancy.tolist()] * 3,
            lags=[0, 3, 7],
            interval_s=INTERVAL_S,
            n_steps=n_steps,
            n_tracks=max(1, n_steps // 15),
            status="ok" if n_steps > 100 else "warming",
        )

    def hello(self) -> HelloMessage:
        return HelloMessage(
            **self.head(),
            livespt="0.1.0",
            config_toml=CONFIG_TOML,
            source="simulated microscope",
            shape=SHAPE,
            interval_s=INTERVAL_S,
            exposure_s=INTERVAL_S,
            pixel_um=PIXEL_UM,
            n_states=self.n_states,
            folder="runs/run-a",
        )

    def tracks(self) -> np.ndarray:
        table = np.zeros(len(self.xy), track_dtype(self.n_states))
        table["track_id"], table["spot"] = self.ids, np.arange(len(self.xy))
        table["n_spots"] = 10
        table["x_um"], table["y_um"] = self.xy.T
        table["var_x_um2"] = table["var_y_um2"] = 0.02**2
        table["p_state"] = 0.1 / self.n_states
        table["p_state"][np.arange(len(table)), self.state] += 0.9
        return table

    def estimate(self) -> EstimateMessage:
        self.move()
        return EstimateMessage(
            **self.head(),
            frame=self.frame,
            t_s=self.t_s,
            model=self.model(self.frame * len(self.xy)),
            tracks=Table.of(self.tracks()),
            n_spots=len(self.xy),
            median_sd_um=0.024 + 0.002 * self.rng.random(),
            median_photons=300 + 20 * self.rng.random(),
            median_bg_photons=5.0,
            sbr=4.0 + 0.4 * self.rng.random(),
            latency_ms=2.0,
        )

    def status(self, state: str = "running", **changes) -> StatusMessage:
        fields = {
            "state": state,
            "t_s": self.t_s,
            "frames_in": self.frame,
            "frames_processed": self.frame,
            "frames_shed": 0,
            "frames_missing": 0,
            "spots": self.frame * len(self.xy),
            "tracks_live": len(self.xy),
            "tracks_ended": 12,
            "fps_in": 50.0,
            "fps_out": 50.0,
            "latency_ms_p50": 2.1,
            "latency_ms_p99": 6.3,
            "ring_used": 3,
            "ring_size": 256,
            "journal_bytes": 1_234_567,
            "wire_dropped": 0,
        }
        return StatusMessage(**self.head(), **(fields | changes))

    def event(self, kind: str, message: str, n_frames: int = 0, name: str = "") -> EventMessage:
        return EventMessage(
            **self.head(),
            kind=kind,
            t_s=self.t_s,
            frame=self.frame,
            n_frames=n_frames,
            message=message,
            name=name,
        )

    def light(self, **about: object) -> ControlMessage:
        fields: dict = {
            "mode": "auto",
            "state": "armed",
            "goal": "precision",
            "target": 0.0065,
            "measured": 0.0081,
            "power": 0.66,
            "unit": "x",
            "wish": 0.9,
            "why": "precision 8.1 nm for 6.5 nm: more light",
            "writes": 3,
            "dose": 10.0,
            "dose_left": 30.0,
            "reached_s": None,
        }
        return ControlMessage(**self.head(), **fields | about)

    def image(self) -> ImageMessage:
        height, width = SHAPE
        y, x = np.mgrid[:height, :width]
        rate = np.full(SHAPE, 5.0)
        for x_um, y_um in self.xy:
            x0, y0 = x_um / PIXEL_UM, y_um / PIXEL_UM
            near = (
                slice(max(0, int(y0) - 5), int(y0) + 6),
                slice(max(0, int(x0) - 5), int(x0) + 6),
            )
            r2 = (x[near] - x0) ** 2 + (y[near] - y0) ** 2
            rate[near] += 300 / (2 * np.pi) * np.exp(-r2 / 2)
        adu = (100 + 2 * self.rng.poisson(rate)).astype(np.uint16)
        return ImageMessage(
            **self.head(), frame=self.frame, t_s=self.t_s, binning=1, adu=Table.of(adu)
        )

    def final(self) -> FinalMessage:
        return FinalMessage(
            **self.head(), model=self.model(200_000), n_tracks=900, n_spots=12_345, seconds=1.4
        )
