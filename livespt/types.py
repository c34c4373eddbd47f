"""The values that flow between the stages, and their units.

    source -> Frame | Event -> localize -> Spots -> link -> Links -> infer -> Estimates

Every array is documented by its dtype; every name carries its unit. Arrays index (y, x); the
centre of pixel (0, 0) is the origin, so ``x_um = x_px * pixel_um``. Times are seconds of the
camera's clock and name the START of an exposure.

=============  ===========================================================
suffix         meaning
=============  ===========================================================
``_um``        micrometres in the sample plane
``_um2``       variance or covariance of a position
``_um2_s``     diffusion coefficient
``_s``         seconds
``_px``        camera pixels
``_adu``       camera counts as read out
``_e``         photo-electrons, called photons where they come from a fit
``sd_``        standard deviation; ``var_`` variance; ``n_`` count; ``p_`` probability
``_95``        a pair (low, high): a 95 % interval
=============  ===========================================================
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray


class LivesptError(Exception):
    """Base of every error that livespt raises on purpose: one line that names the culprit."""


class FitStatus(IntEnum):
    """What became of one fit. Only `OK` rows enter a track."""

    OK = 0
    NOT_CONVERGED = 1
    OUT_OF_REGION = 2  # the position left the fitted region
    BAD_WIDTH = 3  # the width ran to its bound: not a single molecule
    DIM = 4  # photons not significantly above zero
    SATURATED = 5  # the region holds saturated or dead pixels
    SINGULAR = 6  # no finite covariance


class Frame(NamedTuple):
    """One camera image.

    Attributes
    ----------
    index : int
        The camera's own frame number; a hole in the sequence is a lost frame.
    t_s : float
        Start of the exposure on the camera's clock.
    adu : (H, W) uint16, read-only
        Counts as read out.
    exposure_s : float
        Length of the exposure.
    excitation : float
        Relative excitation power while the frame was exposed (1 = the reference), NaN-free.
    arrived_s : float
        `time.perf_counter` when livespt first held the frame; latency counts from here.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    t_s: float
    adu: NDArray[np.uint16]
    exposure_s: float
    excitation: float = 1.0
    arrived_s: float = 0.0


#: One row per fitted spot.
SPOT_DTYPE = np.dtype(
    [
        ("x_um", "f8"),
        ("y_um", "f8"),
        ("var_x_um2", "f8"),
        ("var_y_um2", "f8"),
        ("cov_xy_um2", "f8"),
        ("photons", "f8"),  # integrated over the spot
        ("bg_photons", "f8"),  # per pixel
        ("sigma_um", "f8"),  # fitted width
        ("sd_photons", "f8"),
        ("sd_bg_photons", "f8"),
        ("sd_sigma_um", "f8"),
        ("loglik", "f8"),
        ("false_um2", "f8"),  # guided: density of false spots at this place, 1/um^2; else 0
        ("status", "u1"),  # FitStatus
        ("guided", "u1"),  # 0: found blind; 1: found because a track predicted it
    ]
)


class Spots(NamedTuple):
    """All fits of one frame: likelihoods (mean and full covariance), never bare points.

    `table` has `SPOT_DTYPE`, in order of detection. Rows whose status is not `FitStatus.OK`
    stay in the table, so that nothing is lost, and are ignored by the linker. A row whose
    status is not OK may hold zeros, never NaN. Guided rows come last; theirs is the likelihood
    too, the prediction that led to them taken off again, and `photons` under the track's prior.
    """

    frame: int
    t_s: float
    exposure_s: float
    excitation: float
    table: NDArray[np.void]
    arrived_s: float = 0.0


class Predictions(NamedTuple):
    """Where the tracks expect their molecules in the next frame.

    Attributes
    ----------
    track_id : (n,) int64
    p_on : (n,) float64
        Probability that the molecule is there and shining.
    modes : (n, K, 6) float64
        A mixture over motion modes: weight, x_um, y_um and var_x, cov_xy, var_y in um^2 of the
        mean position over the exposure, before anything is seen of it.
    blur_um2 : (n,) float64
        Variance that motion during the exposure adds to the spot's width, per axis.
    """

    track_id: NDArray[np.int64]
    p_on: NDArray[np.float64]
    modes: NDArray[np.float64]
    blur_um2: NDArray[np.float64]


#: One row per spot of an earlier frame that turned out to belong to another track.
REVISION_DTYPE = np.dtype(
    [
        ("frame", "i8"),
        ("row", "i8"),  # in that frame's `Spots.table`
        ("track_id", "i8"),
        ("p_link", "f8"),  # of the new choice
    ]
)
_NOTHING_REVISED: NDArray[np.void] = np.zeros(0, REVISION_DTYPE)
_NOTHING_REVISED.flags.writeable = False


class Links(NamedTuple):
    """What the linker decided about one frame, and what it changed its mind about.

    Attributes
    ----------
    frame : int
    track_id : (n,) int64
        The track of each row of `Spots.table`; -1 for a row that belongs to none.
    p_link : (n,) float64
        Probability of the link chosen, against its alternatives; 1 for a birth without rivals.
    ended : (m,) int64
        Tracks given up at this frame; their identities never return.
    revised : (r,) `REVISION_DTYPE`
        Spots of earlier frames, up to `link.lag` frames ago, that belong to another track than
        was said then. Where a spot is named again later, the latest holds. Empty once identities
        are settled (`livespt.settle`).
    """

    frame: int
    track_id: NDArray[np.int64]
    p_link: NDArray[np.float64]
    ended: NDArray[np.int64]
    revised: NDArray[np.void] = _NOTHING_REVISED


def track_dtype(n_states: int) -> np.dtype:
    """Return the dtype of `Estimates.table` for `n_states` motion states.

    One row per track seen in the frame. `p_state` is filtered (uses data up to this frame).
    `D_um2_s` is the mean of D over the posterior of the state, `sd_D_um2_s` its spread.
    `D_track_um2_s` and `D_track_95` are of the track alone, as if it had one D: what its own
    displacements say (mean of ln D, as D, and 95 % interval), whatever the states are.
    """
    return np.dtype(
        [
            ("track_id", "i8"),
            ("spot", "i4"),  # row in Spots.table; -1: seen in its pixels alone
            ("n_spots", "i4"),  # spots in the track so far
            ("x_um", "f8"),  # filtered position: mean over the exposure
            ("y_um", "f8"),
            ("var_x_um2", "f8"),
            ("var_y_um2", "f8"),
            ("cov_xy_um2", "f8"),
            ("D_um2_s", "f8"),
            ("sd_D_um2_s", "f8"),
            ("D_track_um2_s", "f8"),
            ("D_track_95", "f8", (2,)),
            ("p_state", "f8", (n_states,)),
        ]
    )


class Model(NamedTuple):
    """The running answer, pooled over all tracks: K states ordered by D.

    Intervals are 95 %. `status` is "warming" until there is enough information for an interval
    (then intervals are the widest the model allows), and "ok" after.

    Attributes
    ----------
    D_um2_s : (K,) float64
    D_95 : (K, 2) float64
    occupancy : (K,) float64
        Stationary occupancy of the switching model.
    occupancy_95 : (K, 2) float64
    p_switch : (K, K) float64
        Transition probabilities per frame interval; rows sum to 1.
    p_switch_95 : (K, K, 2) float64
    rate_per_s : (K, K) float64
        Switching rates per second (off-diagonal), rows sum to 0.
    error_scale : float
        Factor on the standard deviations that the fits reported (1 = they were right).
    error_scale_95 : (2,) float64
    occupancy_lag : (L, K) float64
        Fraction of the molecules of one frame in each state, at each lag of `lags`.
    lags : (L,) int64
        0, 3 and 7 frames unless configured; a lag not yet reached repeats the one before.
    interval_s : float
        Nominal time between frames that `p_switch` refers to.
    n_steps : int
        Displacements that the answer rests on.
    n_tracks : int
        Tracks that contributed.
    status : {"warming", "ok"}
    """

    D_um2_s: NDArray[np.float64]
    D_95: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    occupancy_95: NDArray[np.float64]
    p_switch: NDArray[np.float64]
    p_switch_95: NDArray[np.float64]
    rate_per_s: NDArray[np.float64]
    error_scale: float
    error_scale_95: NDArray[np.float64]
    occupancy_lag: NDArray[np.float64]
    lags: NDArray[np.int64]
    interval_s: float
    n_steps: int
    n_tracks: int
    status: Literal["warming", "ok"]


class Estimates(NamedTuple):
    """The answer after one frame: `table` has `track_dtype(K)`, one row per track seen.

    `events` is what this frame has made known: the sample or the light changed, or the number of
    states in use, from the next frame on.
    """

    frame: int
    t_s: float
    table: NDArray[np.void]
    model: Model
    events: tuple[Event, ...] = ()


class Event(NamedTuple):
    """Something that happened to the stream and that nobody may miss.

    A lost frame is a value, not an exception: sources yield events in line with the frames.

    Attributes
    ----------
    kind : str
        See `EVENT_KINDS`.
    t_s : float
        Camera clock where known, else seconds since the stream began.
    frame : int
        First frame concerned, -1 if none.
    n_frames : int
        How many frames it concerns (a gap's length), 0 if none.
    message : str
        One line for a person.
    name : str
        What changed, or which mark was passed, for a program; "" where the kind says it all.
    before, after : float
        What it was and what it is, in the unit of `EVENT_NAMES`; 0 where there is no name.
    """

    kind: str
    t_s: float
    frame: int
    n_frames: int
    message: str
    name: str = ""
    before: float = 0.0
    after: float = 0.0


#: kind -> what it means.
EVENT_KINDS = {
    "missing": "frames the camera made and livespt never received (hole in ImageNumber)",
    "shed": "frames received and skipped by analysis because it was behind (ring policy 'oldest')",
    "unsaved": "frames received that are not in the raw files: the disk was full or too slow",
    "overflow": "the camera's own buffer overflowed; acquisition was resumed",
    "stalled": "no frame for much longer than the frame interval",
    "resumed": "frames come again after a stall",
    "shape": "the frame's shape or type changed in mid-stream",
    "timestamp": "the camera's clock ran backwards or jumped",
    "changed": "D, density, precision, photons, background or width left the level it had",
    "mark": "a mark that the user set was passed; the name says which",
    "control": "the excitation was changed, held or refused, by whom and why",
    "ended": "the source came to its end",
    "stopped": "stopped on request",
    "failed": "a stage failed; what was answered until then is kept",
    "note": "something worth writing down",
}

#: name -> what `before` and `after` of an event of that name are, with their unit.
EVENT_NAMES = {
    "D": "diffusion of all states together, relative to the running fit's",
    "density": "spots a frame",
    "precision": "median s.d. of a fit's position, um",
    "photons": "median photons of a spot",
    "background": "median background, photons a pixel",
    "width": "median fitted width, um",
    "n_states": "number of motion states in use",
    "bleached": "spots a frame (mark `watch.bleached_to`)",
    "dense": "expected share of wrong links (mark `watch.dense_above`)",
    "defocused": "median fitted width, um (mark `watch.focus_lost`)",
    "imprecise": "median s.d. of a fit's position, um (mark `watch.imprecise_above_um`)",
}

StreamItem: TypeAlias = Frame | Event


class SourceInfo(NamedTuple):
    """What a source knows about its own stream.

    Attributes
    ----------
    name : str
        For people: "simulated microscope", a file's name, a camera's label.
    shape : (int, int)
        Height and width of a frame.
    interval_s : float
        Nominal time between the starts of two frames.
    exposure_s : float
    n_frames : int or None
        None where the stream has no known end.
    paced : bool
        True where frames come on their own clock and must be buffered (a camera, a real-time
        replay); False where the source can wait (a file read as fast as asked).
    identity : str
        Serial number or fingerprint that a calibration can be checked against; "" if unknown.
    """

    name: str
    shape: tuple[int, int]
    interval_s: float
    exposure_s: float
    n_frames: int | None
    paced: bool
    identity: str = ""
