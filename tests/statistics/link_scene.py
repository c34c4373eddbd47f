"""A small Brownian scene with its truth, and the ISBI tracking scores (Chenouard 2014).

The scene is that of the linkers' comparison: D .05 and 1 um2/s, switching .02 a frame, 20 ms of
continuous exposure, 30 nm error, 5 % of the molecules missed, 5 % false spots, blinking and
bleaching, a 40 x 40 um field that is refilled as molecules bleach.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from livespt.types import SPOT_DTYPE, Spots

INTERVAL_S = 0.02
FIELD_UM = 40.0
SD_UM = 0.03
D_UM2_S = (0.05, 1.0)
P_SWITCH = 0.02
P_MISSED = 0.05
P_FALSE = 0.05
P_OFF = 0.01
P_ON = 0.5
P_BLEACH = 0.005
#: ISBI gate.
GATE_UM = 0.25
#: Tracks shorter than this are not scored, neither true nor found.
LEAST_LENGTH = 2
#: Steps of the path within an exposure.
SUBSTEPS = 8


class Scene(NamedTuple):
    """Spots per frame, and per frame the molecule of each spot (-1 for a false one)."""

    spots: list[Spots]
    owner: list[NDArray[np.int64]]
    truth: list[tuple[NDArray[np.int64], NDArray[np.float64]]]  # molecules that shine, where


def table_of(x, y, sd_um=SD_UM):
    """Make an OK spot table from positions."""
    table = np.zeros(len(x), SPOT_DTYPE)
    table["x_um"], table["y_um"] = x, y
    table["var_x_um2"] = table["var_y_um2"] = sd_um**2
    table["photons"], table["sigma_um"] = 300.0, 0.12
    return table


def make_scene(n_molecules, n_frames, seed, *, d_um2_s=D_UM2_S, field_um=FIELD_UM) -> Scene:
    """Simulate `n_molecules` (shining or dark) over `n_frames`; the bleached are replaced."""
    rng = np.random.default_rng(seed)
    d = np.asarray(d_um2_s)
    n = n_molecules
    identity = np.arange(n)
    at = rng.uniform(0, field_um, (n, 2))
    state = rng.integers(len(d), size=n)
    on = rng.random(n) < P_ON / (P_ON + P_OFF)
    next_identity = n
    spots, owner, truth = [], [], []
    for frame in range(n_frames):
        sd = np.sqrt(2 * d[state] * INTERVAL_S / SUBSTEPS)[:, None, None]
        path = at[:, None] + np.cumsum(sd * rng.normal(size=(n, SUBSTEPS, 2)), axis=1)
        before = np.concatenate([at[:, None], path[:, :-1]], axis=1)
        # mean of the path, with the bridge between substeps: Var of its mean is 2 D h / 12
        where = ((before + path) / 2).mean(1)
        where += sd[:, :, 0] / np.sqrt(12 * SUBSTEPS) * rng.normal(size=(n, 2))
        at = path[:, -1]
        truth.append((identity[on].copy(), where[on]))
        found = on & (rng.random(n) >= P_MISSED)
        n_false = rng.poisson(P_FALSE * found.sum())
        y = where[found] + SD_UM * rng.normal(size=(found.sum(), 2))
        y = np.concatenate([y, rng.uniform(0, field_um, (n_false, 2))])
        who = np.concatenate([identity[found], np.full(n_false, -1)])
        shuffle = rng.permutation(len(who))
        t_s = frame * INTERVAL_S
        table = table_of(y[shuffle, 0], y[shuffle, 1])
        spots.append(Spots(frame, t_s, INTERVAL_S, 1.0, table))
        owner.append(who[shuffle])
        # between frames: switch, blink, bleach (and be replaced), reflect at the edge
        state = np.where(rng.random(n) < P_SWITCH, (state + 1) % len(d), state)
        flip = rng.random(n)
        on = np.where(on, flip >= P_OFF, flip < P_ON)
        gone = rng.random(n) < P_BLEACH
        identity[gone] = np.arange(next_identity, next_identity + gone.sum())
        next_identity += gone.sum()
        at[gone] = rng.uniform(0, field_um, (gone.sum(), 2))
        on[gone] = True
        at = np.abs(at)
        at = field_um - np.abs(field_um - at)
    return Scene(spots, owner, truth)


class Scores(NamedTuple):
    """ISBI: alpha, Jaccard of positions, Jaccard of tracks, in [0, 1]."""

    alpha: float
    jsc: float
    jsc_theta: float


def isbi(scene: Scene, track_ids, *, least_length=LEAST_LENGTH) -> Scores:
    """Score the tracks `track_ids` (per frame, per spot; -1 for none) against the truth."""
    true_rows = _rows((f, i, p) for f, (i, p) in enumerate(scene.truth))
    found_rows = _rows(
        (f, ids, np.stack([s.table["x_um"], s.table["y_um"]], 1))
        for f, (s, ids) in enumerate(zip(scene.spots, track_ids, strict=True))
    )
    true_rows, found_rows = _long(true_rows, least_length), _long(found_rows, least_length)
    n_true, n_found = int(true_rows[1].max()) + 1, int(found_rows[1].max()) + 1
    overlap = _gains(true_rows, found_rows)
    gain = np.zeros((n_true, n_found))
    hits = np.zeros((n_true, n_found), int)
    np.add.at(gain, overlap[:2], overlap[2])
    np.add.at(hits, overlap[:2], 1)
    # d(X, Y) = sum over the frames; pairing maximises the total gain, component by component
    pairs = _best_pairs(gain)
    matched = gain[pairs].sum()
    tp = hits[pairs].sum()
    n_pairs = int((hits[pairs] > 0).sum())
    fn, fp = len(true_rows[0]) - tp, len(found_rows[0]) - tp
    alpha = matched / (GATE_UM * len(true_rows[0]))
    return Scores(
        float(alpha),
        float(tp / (tp + fn + fp)),
        float(n_pairs / (n_true + n_found - n_pairs)),
    )


def _rows(frames):
    """Flatten to (frame, identity, position), dropping identity -1."""
    f, i, p = zip(*((np.full(len(ids), f), ids, at) for f, ids, at in frames), strict=True)
    f, i, p = np.concatenate(f), np.concatenate(i), np.concatenate(p)
    keep = i >= 0
    return f[keep], i[keep], p[keep]


def _long(rows, least):
    """Drop tracks shorter than `least` and renumber the rest from 0."""
    f, i, p = rows
    _, index, count = np.unique(i, return_inverse=True, return_counts=True)
    keep = count[index] >= least
    return f[keep], np.unique(index[keep], return_inverse=True)[1], p[keep]


def _gains(true_rows, found_rows):
    """List (true, found, gate - distance) for all pairs within the gate in one frame."""
    out = []
    for frame in range(int(max(true_rows[0].max(), found_rows[0].max())) + 1):
        a, b = true_rows[0] == frame, found_rows[0] == frame
        gap = np.linalg.norm(true_rows[2][a][:, None] - found_rows[2][b][None], axis=2)
        near = np.nonzero(gap < GATE_UM)
        out.append((true_rows[1][a][near[0]], found_rows[1][b][near[1]], GATE_UM - gap[near]))
    return tuple(np.concatenate(part) for part in zip(*out, strict=True))


def _best_pairs(gain):
    """Pair rows and columns for the greatest total gain, one connected component at a time."""
    i, j = np.nonzero(gain)
    n, m = gain.shape
    graph = coo_array((np.ones(len(i)), (i, j + n)), shape=(n + m, n + m))
    _, label = connected_components(graph, directed=False)
    rows, columns = [], []
    order = np.argsort(label, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        r, c = part[part < n], part[part >= n] - n
        if len(r) and len(c):
            a, b = linear_sum_assignment(gain[np.ix_(r, c)], maximize=True)
            rows.append(r[a])
            columns.append(c[b])
    return np.concatenate(rows), np.concatenate(columns)
