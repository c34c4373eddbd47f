# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Where a predicted molecule most likely is: a matched filter under its prior (theory: `guided`).

Symbols: u share of light, s and w score and information of a pixel about its rate, U and V those
of the photons N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize import table_kernels as tables
from livespt.localize.column_kernels import (
    ALONG_X,
    ALONG_Y,
    WIDE,
    B,
    N,
    S,
    X,
    Y,
    profiles,
    set_all,
    slopes,
)
from livespt.localize.guided_prior_kernels import log_top

SCAN_SIDE = 15  # most pixels a side that are looked at for the start
GRID = 13  # places a side of the scan
STEPS = 15
TOLERANCE = 1e-4  # squared length of the last step, in standard deviations


class Space(NamedTuple):
    """Work space of a guided fit, beside that of any fit."""

    along: np.ndarray  # (GRID, WIDE): profiles of the scan
    down: np.ndarray
    lines: np.ndarray  # (3, GRID, WIDE)
    score: np.ndarray  # (WIDE * WIDE,)
    weight: np.ndarray
    terms: np.ndarray  # (K, 6): the prior
    pull: np.ndarray  # (6,)
    null: np.ndarray  # (5,): theta of background alone
    low: np.ndarray
    high: np.ndarray


@kernel
def fit_background(side, region, table, scratch, null):
    """Fit the background alone; `null` is a start and becomes the optimum, with no spot in it."""
    null[N] = 0.0
    for _ in range(STEPS):
        slopes(null, side, region, table, scratch.columns, scratch.grad, scratch.info)
        step = scratch.grad[B] / scratch.info[B, B]
        null[B] = max(null[B] + min(max(step, -0.8 * null[B]), max(null[B], 1.0)), 0.005)
        if step * scratch.grad[B] < TOLERANCE:
            break


@kernel
def pixel_scores(side, background, region, table, score, weight):
    """Fill score and information of every pixel about its own rate, no spot in it."""
    for i in range(side):
        for j in range(side):
            at = i * WIDE + j
            rate = background + region.extra[at]
            if table.size:
                score[at], weight[at] = tables.look_up(region.data[at], rate, table)
            else:
                weight[at] = 1.0 / (rate + region.var[at])
                score[at] = region.data[at] * weight[at] - 1.0


@kernel
def grid_profiles(x, y, step, side, sigma, scratch, space):
    """Fill the shares of light along both axes for every place of the scan."""
    theta = scratch.trial
    set_all(theta, 0.0)
    theta[S] = sigma
    for g in range(GRID):
        off = (g - GRID // 2) * step
        theta[X], theta[Y] = x + off, y + off
        profiles(theta, side, scratch.columns)
        for j in range(WIDE):
            space.along[g, j] = scratch.columns[ALONG_X * WIDE + j]
            space.down[g, j] = scratch.columns[ALONG_Y * WIDE + j]


@kernel
def fold(side, space):
    """Sum score and information along each line of the region, for every x of the scan.

    The three sums are of s u, of w u and of w u^2 with u the share of light.
    """
    lines = space.lines
    for g in range(GRID):
        for i in range(side):
            a = b = c = 0.0
            for j in range(side):
                u, w = space.along[g, j], space.weight[i * WIDE + j]
                a += space.score[i * WIDE + j] * u
                b += w * u
                c += w * u * u
            lines[0, g, i], lines[1, g, i], lines[2, g, i] = a, b, c


@kernel
def step_of(centre, sigma):
    """Return the distance between places of the scan: three s.d. of the prior in six steps."""
    return min(max(0.5 * math.sqrt(centre[2]), 0.25 * sigma), 1.0)


@kernel
def side_of(centre, sigma, height, width):
    """Return the side of the region that holds the scan, and the spot at its edge."""
    reach = (GRID // 2) * step_of(centre, sigma) + 2.5 * sigma
    return min(2 * int(reach + 0.5) + 1, SCAN_SIDE, height, width)


@kernel
def scan(photons, sigma, x0, y0, centre, side, region, table, scratch, space, theta):
    """Set `theta` to the best place of the scan: matched filter plus prior, photons integrated out.

    With U and V the efficient score and information of N at N = 0, the best N under its prior is
    (U + N0/t2) / (V + 1/t2), and ln L gains half of its square times V + 1/t2.
    """
    null = space.null
    fit_background(side, region, table, scratch, null)
    info_b = scratch.info[B, B]
    pixel_scores(side, null[B], region, table, space.score, space.weight)
    x, y = centre[0] - x0, centre[1] - y0
    step = step_of(centre, sigma)
    grid_profiles(x, y, step, side, sigma, scratch, space)
    fold(side, space)
    tight = 1.0 / (photons[1] * photons[1])
    best = -1e300
    for gy in range(GRID):
        for gx in range(GRID):
            u = v = cross = 0.0
            for i in range(side):
                p = space.down[gy, i]
                u += p * space.lines[0, gx, i]
                cross += p * space.lines[1, gx, i]
                v += p * p * space.lines[2, gx, i]
            v = max(v - cross * cross / info_b, 0.0) + tight
            u += photons[0] * tight
            at_x = centre[0] + (gx - GRID // 2) * step
            at_y = centre[1] + (gy - GRID // 2) * step
            value = 0.5 * max(u, 0.0) ** 2 / v + log_top(space.terms, at_x, at_y)
            if value > best:
                best = value
                theta[X], theta[Y], theta[N] = at_x, at_y, u / v
    theta[N] = max(theta[N], 0.3 * photons[0])
    theta[B] = max(null[B] - theta[N] / (side * side), 0.3 * null[B])
    theta[S] = sigma
