# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One frame from counts to fits in one call: the interpreter is let go once, and taken once.

What is fixed and what is work space come as plain tuples and get their names here. Told what a
tuple with names holds, numba takes .6 us longer for each, and .1 us for each number in it: 18 us
of a frame of 280 (measured), where plain tuples take 7.
"""

from __future__ import annotations

from livespt.jit import kernel
from livespt.localize import detect_kernels, frame_kernels
from livespt.localize.column_kernels import S
from livespt.localize.detect_kernels import Plan, Work
from livespt.localize.fit_kernels import Region, Scratch
from livespt.localize.frame_kernels import Fits, Space
from livespt.localize.lane_table_kernels import LaneTable
from livespt.localize.line_kernels import Layout
from livespt.localize.table_kernels import Table


@kernel
def localize_frame(adu, plan, fit, room):
    """Find and fit the spots of one frame; return how many rows of `found` and of the fits count.

    `plan` holds what `Plan` does and `room` what `Work`, `Space` and `Fits` do, as plain tuples.
    `fit` holds maps, lanes' maps, both tables, `per_z`, bounds and side as `fit_frame` takes them,
    and the width to start from, which takes the place of the strength in `found`.
    """
    maps, lane_maps, (table, lane_table), per_z, bounds, side, sigma_px = fit
    for_detection, (region, scratch, buffers, lanes, cuts, lists), fits = room
    work = Work(*for_detection)
    n = detect_kernels.detect_frame(adu, Plan(Layout(*plan[0]), *plan[1:]), work)
    found = work.found[:n]
    for k in range(n):
        found[k, S] = sigma_px
    frame_kernels.fit_frame(
        adu,
        found,
        maps,
        lane_maps,
        (Table(*table), LaneTable(*lane_table)),
        per_z,
        bounds,
        side,
        Space(Region(*region), Scratch(*scratch), buffers, lanes, cuts, lists),
        Fits(*fits),
    )
    return n
