# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From the frame into the lanes: regions cut, neighbours' light added, sixteen spots at a time.

Theory: `livespt.localize.localizer`; rows and lanes: `lane_kernels`. A region's lines are `WIDE`
elements apart here as well, whatever its side, and are read that wide: one or two loads of the
processor, where a loop of nine would start and end slowly. What lies beyond the region is never
dealt. The cut regions wait in one flat float32 array, and are then dealt to their lanes sixteen at
a time.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import lanes
from livespt.localize import lane_kernels as rows
from livespt.localize.column_kernels import WIDE
from livespt.localize.lane_fit_kernels import LEAST_DATUM
from livespt.localize.lane_kernels import HALF, LANES, ONE, SIDE, ZERO, exp_minus

BLOCK = 16  # spots cut at once
MOST = SIDE * WIDE  # elements of the largest region
SPOT = 2 * MOST + 16  # from one to the next: data, then known rates; no power of two
PLACES = BLOCK * SPOT  # on the table's first axis
GAINS = PLACES + BLOCK * SPOT  # of one region: 1/gain, then offsets
OFFSETS = GAINS + MOST
EDGES = OFFSETS + MOST  # error function at the edges of a neighbour's pixels, x then y
SIZE = EDGES + 2 * WIDE + 16
_W = np.uint64(WIDE)
_U = tuple(np.uint64(k) for k in range(16))
_S = tuple(np.uint64(k * SPOT) for k in range(16))
_F = np.float32
_SATURATED, _FAR = _F(65535.0), _F(60.0)
_SATURATED_BITS = _SATURATED.view(np.int32)
_P = _F(0.3275911 * math.sqrt(0.5))
_A1, _A2, _A3 = _F(0.254829592), _F(-0.284496736), _F(1.421413741)
_A4, _A5 = _F(-1.453152027), _F(1.061405429)


@lanes
def copy_lines(source, start, width, side, cuts, to):
    """Copy a region's lines from a flat frame or map, `WIDE` elements of each that has so many."""
    for i in range(side):
        at, line = np.uint64(start + i * width), np.uint64(to + i * WIDE)
        if start + i * width + WIDE <= source.size:
            for j in range(_W):
                cuts[line + j] = _F(source[at + j])
        else:
            for j in range(np.uint64(side)):
                cuts[line + j] = _F(source[at + j])


@lanes
def not_to_be_trusted(cuts, to, side):
    """Say whether a region's counts hold a saturated one, or are all the same.

    Nearly always neither is so, and seen at once: nothing saturated even in what was read beside
    the region, and the first two pixels differ. Positive floats order as their bits do, and
    integers take their maximum in vector registers.
    """
    at, top = np.uint64(to), np.int32(0)
    for q in range(np.uint64(side * WIDE)):
        top = max(top, np.float32(cuts[at + q]).view(np.int32))
    if top < _SATURATED_BITS and cuts[at] != cuts[at + _U[1]]:
        return False
    low, high = cuts[at], cuts[at]
    for i in range(side):
        line = np.uint64(to + i * WIDE)
        for j in range(np.uint64(side)):
            low, high = min(low, cuts[line + j]), max(high, cuts[line + j])
    return high >= _SATURATED or low == high


@lanes
def cut_places(counts, start, width, side, place, cuts, to):
    """Fill the places of a region's counts on the table's first axis."""
    for i in range(side):
        at, line = np.uint64(start + i * width), np.uint64(to + i * WIDE)
        for j in range(np.uint64(side)):
            cuts[line + j] = place[counts[at + j]]


@lanes
def cut_region(counts, maps, start, width, side, common, cuts, to):
    """Fill data and known rates of one region; True where it cannot be trusted.

    `maps` are flat float32: 1/gain, offset, variance, of all pixels or of one.
    """
    per_gain, offset, var = maps
    copy_lines(counts, start, width, side, cuts, to)
    bad = not_to_be_trusted(cuts, to, side)
    data, known, n = np.uint64(to), np.uint64(to + MOST), np.uint64(side * WIDE)
    if per_gain.size == 1:
        scale, zero, v = per_gain[0], offset[0], var[0]
        for q in range(n):
            cuts[data + q] = max((cuts[data + q] - zero) * scale + v, LEAST_DATUM)
        for q in range(n):
            cuts[known + q] = v - common
        return bad
    copy_lines(per_gain, start, width, side, cuts, GAINS)
    copy_lines(offset, start, width, side, cuts, OFFSETS)
    copy_lines(var, start, width, side, cuts, to + MOST)
    gains, offsets = np.uint64(GAINS), np.uint64(OFFSETS)
    for q in range(n):
        electrons = (cuts[data + q] - cuts[offsets + q]) * cuts[gains + q]
        cuts[data + q] = max(electrons + cuts[known + q], LEAST_DATUM)
    for q in range(n):
        cuts[known + q] -= common
    return bad


@lanes
def add_stray(x, y, photons, sigma, side, cuts, to):
    """Add the light of a spot, x and y counted from the region's first pixel, to known rates.

    As `lane_kernels.fill_edges`.
    """
    inverse, cx, cy = ONE / _F(sigma), _F(x), _F(y)
    edges, light = np.uint64(EDGES), _F(photons)
    for q in range(np.uint64(2 * WIDE)):
        along_x = q < _W
        edge = _F(np.int32(q & np.uint64(WIDE - 1))) - HALF
        t = (edge - (cx if along_x else cy)) * inverse
        e = exp_minus(min(HALF * t * t, _FAR))
        u = ONE / (ONE + _P * abs(t))
        half = HALF - HALF * u * (_A1 + u * (_A2 + u * (_A3 + u * (_A4 + u * _A5)))) * e
        cuts[edges + q] = half if t >= ZERO else -half
    for i in range(side):
        at = edges + _W + np.uint64(i)
        share = light * (cuts[at + _U[1]] - cuts[at])
        line = np.uint64(to + MOST + i * WIDE)
        for j in range(np.uint64(WIDE - 1)):
            cuts[line + j] += share * (cuts[edges + j + _U[1]] - cuts[edges + j])


@lanes
def deal_one(w, to, cuts, at):
    """Deal one pixel of sixteen regions to sixteen lanes: all loads, then all stores."""
    s0, s1, s2, s3 = cuts[at], cuts[at + _S[1]], cuts[at + _S[2]], cuts[at + _S[3]]
    s4, s5, s6, s7 = cuts[at + _S[4]], cuts[at + _S[5]], cuts[at + _S[6]], cuts[at + _S[7]]
    s8, s9, s10, s11 = cuts[at + _S[8]], cuts[at + _S[9]], cuts[at + _S[10]], cuts[at + _S[11]]
    s12, s13, s14, s15 = cuts[at + _S[12]], cuts[at + _S[13]], cuts[at + _S[14]], cuts[at + _S[15]]
    w[to], w[to + _U[1]], w[to + _U[2]], w[to + _U[3]] = s0, s1, s2, s3
    w[to + _U[4]], w[to + _U[5]], w[to + _U[6]], w[to + _U[7]] = s4, s5, s6, s7
    w[to + _U[8]], w[to + _U[9]], w[to + _U[10]], w[to + _U[11]] = s8, s9, s10, s11
    w[to + _U[12]], w[to + _U[13]], w[to + _U[14]], w[to + _U[15]] = s12, s13, s14, s15


@lanes
def deal_block(w, first, side, table, cuts):
    """Deal sixteen cut regions to the lanes from `first` on."""
    data, known = rows.PIXELS + np.uint64(first), rows.PIXELS + np.uint64(side * LANES + first)
    place = rows.PLACE + np.uint64(first)
    for i in range(side):
        for j in range(side):
            at = np.uint64(i * WIDE + j)
            deal_one(w, data, cuts, at)
            deal_one(w, known, cuts, at + np.uint64(MOST))
            if table.size:
                deal_one(w, place, cuts, at + np.uint64(PLACES))
            data += np.uint64(LANES)
            known += np.uint64(LANES)
            place += np.uint64(LANES)
        data += np.uint64(side * LANES)
        known += np.uint64(side * LANES)
