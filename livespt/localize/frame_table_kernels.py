# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From fits in pixels to the rows that a frame's spots are handed on in."""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import brief_kernel
from livespt.localize.column_kernels import B, N, S, X, Y
from livespt.localize.fit_kernels import judge
from livespt.types import FitStatus

OK, OUT_OF_REGION = int(FitStatus.OK), int(FitStatus.OUT_OF_REGION)
NUMBERS = 12  # of a row: from x to loglik


@brief_kernel
def fill_table(fits, bounds, side, meanings, lengths, room, rows, status):
    """Judge the fits of a frame, mark molecules found twice, and fill the rows of its table.

    `fits` are `frame_kernels.Fits` as a plain tuple, of which as many rows count as there is
    `room` for; `lengths` are the distance of `mark_repeated` and the side of a
    pixel in the sample; `room` is scratch, (n, 5) float64 and (n,) int64.
    """
    (nearest, unit), (local, order) = lengths, room
    theta, covariance, loglik, code, bad, origin, _ = fits
    for k in range(order.size):
        for a in range(5):
            local[k, a] = theta[k, a]
        local[k, X] -= origin[k, 1]
        local[k, Y] -= origin[k, 0]
    judge(local, covariance, code[: order.size], bad, bounds, side, meanings, status)
    order_by_y(theta, order)
    mark_repeated(theta, order, nearest, status)
    fill_rows(theta[: order.size], covariance, loglik, unit, rows)


@brief_kernel
def order_by_y(theta, order):
    """Fill in the order of fits by y, which is nearly theirs; what is no number comes last."""
    for k in range(order.size):
        place, y = k, theta[k, Y]
        while place > 0 and y == y and not theta[order[place - 1], Y] <= y:
            order[place] = order[place - 1]
            place -= 1
        order[place] = k


@brief_kernel
def mark_repeated(theta, order, nearest, status):
    """Take the dimmer of two good fits nearer than `nearest` in x and y for out of its region.

    `order` sorts the fits by y.
    """
    for at in range(order.size):
        one = order[at]
        beyond = at + 1
        while beyond < order.size and theta[order[beyond], Y] - theta[one, Y] < nearest:
            other = order[beyond]
            if abs(theta[one, X] - theta[other, X]) < nearest:
                dimmer = one if theta[one, N] < theta[other, N] else other
                if status[dimmer] == OK:
                    status[dimmer] = OUT_OF_REGION
            beyond += 1


@brief_kernel
def fill_rows(theta, covariance, loglik, unit, rows):
    """Fill the numbers of each row, (n, 12), in the order of `SPOT_DTYPE`; no NaN leaves.

    `unit` is the side of a pixel in the sample.
    """
    for k in range(theta.shape[0]):
        rows[k, 0], rows[k, 1] = theta[k, X] * unit, theta[k, Y] * unit
        rows[k, 2] = covariance[k, X, X] * unit * unit
        rows[k, 3] = covariance[k, Y, Y] * unit * unit
        rows[k, 4] = covariance[k, X, Y] * unit * unit
        rows[k, 5], rows[k, 6], rows[k, 7] = theta[k, N], theta[k, B], theta[k, S] * unit
        rows[k, 8] = math.sqrt(max(covariance[k, N, N], 0.0))
        rows[k, 9] = math.sqrt(max(covariance[k, B, B], 0.0))
        rows[k, 10] = math.sqrt(max(covariance[k, S, S], 0.0)) * unit
        rows[k, 11] = loglik[k]
        for column in range(NUMBERS):
            if not np.isfinite(rows[k, column]):
                rows[k, column] = 0.0
