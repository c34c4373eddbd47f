# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The equations H step = g of every lane's spot, and its covariance, in vector registers.

H = L L^T over what is free, written out for seven parameters: as loops over rows, the same sums
take three times as long. Rows and theory: `livespt.localize.newton_kernels`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel_of_lanes
from livespt.localize.oval_kernels import LANES

N_STEP = 7
N_LOWER = N_STEP * (N_STEP + 1) // 2


def rows(first, n):
    """Return where each of `n` rows starts."""
    return tuple(np.uint64((first + k) * LANES) for k in range(n))


FREE, STEP = rows(0, N_STEP), rows(N_STEP, N_STEP)  # 1 where a parameter is free, else 0
GRAD, HESSIAN = rows(14, N_STEP), rows(21, N_LOWER)  # lower triangle, line by line
FACTOR = rows(49, N_LOWER)  # L, with 1/L on its diagonal
(RIDGE, LENGTH, SOUND) = rows(77, 3)  # the step's squared length in s.d.; 1 where H is positive
INVERSE = rows(80, N_LOWER)  # of L
N_ALGEBRA = 108
_LEAST = 1e-9  # of a diagonal element: pivots below are taken for none


@kernel_of_lanes
def solve(w):
    """Fill factor, step and its length, with H + ridge |diag H| for H."""
    for k in range(np.uint64(LANES)):
        up = w[RIDGE + k]
        f0 = w[FREE[0] + k]
        f1 = w[FREE[1] + k]
        f2 = w[FREE[2] + k]
        f3 = w[FREE[3] + k]
        f4 = w[FREE[4] + k]
        f5 = w[FREE[5] + k]
        f6 = w[FREE[6] + k]
        h00 = w[HESSIAN[0] + k]
        h11 = w[HESSIAN[2] + k]
        h22 = w[HESSIAN[5] + k]
        h33 = w[HESSIAN[9] + k]
        h44 = w[HESSIAN[14] + k]
        h55 = w[HESSIAN[20] + k]
        h66 = w[HESSIAN[27] + k]
        h10 = f1 * f0 * w[HESSIAN[1] + k]
        h20 = f2 * f0 * w[HESSIAN[3] + k]
        h21 = f2 * f1 * w[HESSIAN[4] + k]
        h30 = f3 * f0 * w[HESSIAN[6] + k]
        h31 = f3 * f1 * w[HESSIAN[7] + k]
        h32 = f3 * f2 * w[HESSIAN[8] + k]
        h40 = f4 * f0 * w[HESSIAN[10] + k]
        h41 = f4 * f1 * w[HESSIAN[11] + k]
        h42 = f4 * f2 * w[HESSIAN[12] + k]
        h43 = f4 * f3 * w[HESSIAN[13] + k]
        h50 = f5 * f0 * w[HESSIAN[15] + k]
        h51 = f5 * f1 * w[HESSIAN[16] + k]
        h52 = f5 * f2 * w[HESSIAN[17] + k]
        h53 = f5 * f3 * w[HESSIAN[18] + k]
        h54 = f5 * f4 * w[HESSIAN[19] + k]
        h60 = f6 * f0 * w[HESSIAN[21] + k]
        h61 = f6 * f1 * w[HESSIAN[22] + k]
        h62 = f6 * f2 * w[HESSIAN[23] + k]
        h63 = f6 * f3 * w[HESSIAN[24] + k]
        h64 = f6 * f4 * w[HESSIAN[25] + k]
        h65 = f6 * f5 * w[HESSIAN[26] + k]
        d0 = f0 * abs(h00)
        h00 = f0 * h00 + up * d0 + (1.0 - f0)
        d1 = f1 * abs(h11)
        h11 = f1 * h11 + up * d1 + (1.0 - f1)
        d2 = f2 * abs(h22)
        h22 = f2 * h22 + up * d2 + (1.0 - f2)
        d3 = f3 * abs(h33)
        h33 = f3 * h33 + up * d3 + (1.0 - f3)
        d4 = f4 * abs(h44)
        h44 = f4 * h44 + up * d4 + (1.0 - f4)
        d5 = f5 * abs(h55)
        h55 = f5 * h55 + up * d5 + (1.0 - f5)
        d6 = f6 * abs(h66)
        h66 = f6 * h66 + up * d6 + (1.0 - f6)
        sound = h00 > _LEAST * d0
        e0 = 1.0 / math.sqrt(h00 if h00 > _LEAST * d0 else 1.0)
        h10, h20, h30, h40, h50, h60 = h10 * e0, h20 * e0, h30 * e0, h40 * e0, h50 * e0, h60 * e0
        h11 -= h10 * h10
        h21 -= h20 * h10
        h31 -= h30 * h10
        h41 -= h40 * h10
        h51 -= h50 * h10
        h61 -= h60 * h10
        h22 -= h20 * h20
        h32 -= h30 * h20
        h42 -= h40 * h20
        h52 -= h50 * h20
        h62 -= h60 * h20
        h33 -= h30 * h30
        h43 -= h40 * h30
        h53 -= h50 * h30
        h63 -= h60 * h30
        h44 -= h40 * h40
        h54 -= h50 * h40
        h64 -= h60 * h40
        h55 -= h50 * h50
        h65 -= h60 * h50
        h66 -= h60 * h60
        sound = sound & (h11 > _LEAST * d1)
        e1 = 1.0 / math.sqrt(h11 if h11 > _LEAST * d1 else 1.0)
        h21, h31, h41, h51, h61 = h21 * e1, h31 * e1, h41 * e1, h51 * e1, h61 * e1
        h22 -= h21 * h21
        h32 -= h31 * h21
        h42 -= h41 * h21
        h52 -= h51 * h21
        h62 -= h61 * h21
        h33 -= h31 * h31
        h43 -= h41 * h31
        h53 -= h51 * h31
        h63 -= h61 * h31
        h44 -= h41 * h41
        h54 -= h51 * h41
        h64 -= h61 * h41
        h55 -= h51 * h51
        h65 -= h61 * h51
        h66 -= h61 * h61
        sound = sound & (h22 > _LEAST * d2)
        e2 = 1.0 / math.sqrt(h22 if h22 > _LEAST * d2 else 1.0)
        h32, h42, h52, h62 = h32 * e2, h42 * e2, h52 * e2, h62 * e2
        h33 -= h32 * h32
        h43 -= h42 * h32
        h53 -= h52 * h32
        h63 -= h62 * h32
        h44 -= h42 * h42
        h54 -= h52 * h42
        h64 -= h62 * h42
        h55 -= h52 * h52
        h65 -= h62 * h52
        h66 -= h62 * h62
        sound = sound & (h33 > _LEAST * d3)
        e3 = 1.0 / math.sqrt(h33 if h33 > _LEAST * d3 else 1.0)
        h43, h53, h63 = h43 * e3, h53 * e3, h63 * e3
        h44 -= h43 * h43
        h54 -= h53 * h43
        h64 -= h63 * h43
        h55 -= h53 * h53
        h65 -= h63 * h53
        h66 -= h63 * h63
        sound = sound & (h44 > _LEAST * d4)
        e4 = 1.0 / math.sqrt(h44 if h44 > _LEAST * d4 else 1.0)
        h54, h64 = h54 * e4, h64 * e4
        h55 -= h54 * h54
        h65 -= h64 * h54
        h66 -= h64 * h64
        sound = sound & (h55 > _LEAST * d5)
        e5 = 1.0 / math.sqrt(h55 if h55 > _LEAST * d5 else 1.0)
        h65 = h65 * e5
        h66 -= h65 * h65
        sound = sound & (h66 > _LEAST * d6)
        e6 = 1.0 / math.sqrt(h66 if h66 > _LEAST * d6 else 1.0)
        z0 = (f0 * w[GRAD[0] + k]) * e0
        z1 = (f1 * w[GRAD[1] + k] - h10 * z0) * e1
        z2 = (f2 * w[GRAD[2] + k] - h20 * z0 - h21 * z1) * e2
        z3 = (f3 * w[GRAD[3] + k] - h30 * z0 - h31 * z1 - h32 * z2) * e3
        z4 = (f4 * w[GRAD[4] + k] - h40 * z0 - h41 * z1 - h42 * z2 - h43 * z3) * e4
        z5 = (f5 * w[GRAD[5] + k] - h50 * z0 - h51 * z1 - h52 * z2 - h53 * z3 - h54 * z4) * e5
        z6 = (
            f6 * w[GRAD[6] + k] - h60 * z0 - h61 * z1 - h62 * z2 - h63 * z3 - h64 * z4 - h65 * z5
        ) * e6
        w[LENGTH + k] = z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3 + z4 * z4 + z5 * z5 + z6 * z6
        w[SOUND + k] = 1.0 if sound else 0.0
        z6 = (z6) * e6
        z5 = (z5 - h65 * z6) * e5
        z4 = (z4 - h54 * z5 - h64 * z6) * e4
        z3 = (z3 - h43 * z4 - h53 * z5 - h63 * z6) * e3
        z2 = (z2 - h32 * z3 - h42 * z4 - h52 * z5 - h62 * z6) * e2
        z1 = (z1 - h21 * z2 - h31 * z3 - h41 * z4 - h51 * z5 - h61 * z6) * e1
        z0 = (z0 - h10 * z1 - h20 * z2 - h30 * z3 - h40 * z4 - h50 * z5 - h60 * z6) * e0
        w[STEP[0] + k] = z0
        w[STEP[1] + k] = z1
        w[STEP[2] + k] = z2
        w[STEP[3] + k] = z3
        w[STEP[4] + k] = z4
        w[STEP[5] + k] = z5
        w[STEP[6] + k] = z6
        w[FACTOR[0] + k] = e0
        w[FACTOR[1] + k] = h10
        w[FACTOR[2] + k] = e1
        w[FACTOR[3] + k] = h20
        w[FACTOR[4] + k] = h21
        w[FACTOR[5] + k] = e2
        w[FACTOR[6] + k] = h30
        w[FACTOR[7] + k] = h31
        w[FACTOR[8] + k] = h32
        w[FACTOR[9] + k] = e3
        w[FACTOR[10] + k] = h40
        w[FACTOR[11] + k] = h41
        w[FACTOR[12] + k] = h42
        w[FACTOR[13] + k] = h43
        w[FACTOR[14] + k] = e4
        w[FACTOR[15] + k] = h50
        w[FACTOR[16] + k] = h51
        w[FACTOR[17] + k] = h52
        w[FACTOR[18] + k] = h53
        w[FACTOR[19] + k] = h54
        w[FACTOR[20] + k] = e5
        w[FACTOR[21] + k] = h60
        w[FACTOR[22] + k] = h61
        w[FACTOR[23] + k] = h62
        w[FACTOR[24] + k] = h63
        w[FACTOR[25] + k] = h64
        w[FACTOR[26] + k] = h65
        w[FACTOR[27] + k] = e6


@kernel_of_lanes
def invert(w):
    """Fill the inverse of L, the columns of held parameters with 0."""
    for k in range(np.uint64(LANES)):
        l00 = w[FACTOR[0] + k]
        l10 = w[FACTOR[1] + k]
        l11 = w[FACTOR[2] + k]
        l20 = w[FACTOR[3] + k]
        l21 = w[FACTOR[4] + k]
        l22 = w[FACTOR[5] + k]
        l30 = w[FACTOR[6] + k]
        l31 = w[FACTOR[7] + k]
        l32 = w[FACTOR[8] + k]
        l33 = w[FACTOR[9] + k]
        l40 = w[FACTOR[10] + k]
        l41 = w[FACTOR[11] + k]
        l42 = w[FACTOR[12] + k]
        l43 = w[FACTOR[13] + k]
        l44 = w[FACTOR[14] + k]
        l50 = w[FACTOR[15] + k]
        l51 = w[FACTOR[16] + k]
        l52 = w[FACTOR[17] + k]
        l53 = w[FACTOR[18] + k]
        l54 = w[FACTOR[19] + k]
        l55 = w[FACTOR[20] + k]
        l60 = w[FACTOR[21] + k]
        l61 = w[FACTOR[22] + k]
        l62 = w[FACTOR[23] + k]
        l63 = w[FACTOR[24] + k]
        l64 = w[FACTOR[25] + k]
        l65 = w[FACTOR[26] + k]
        l66 = w[FACTOR[27] + k]
        m00 = l00
        m10 = -(l10 * m00) * l11
        m20 = -(l20 * m00 + l21 * m10) * l22
        m30 = -(l30 * m00 + l31 * m10 + l32 * m20) * l33
        m40 = -(l40 * m00 + l41 * m10 + l42 * m20 + l43 * m30) * l44
        m50 = -(l50 * m00 + l51 * m10 + l52 * m20 + l53 * m30 + l54 * m40) * l55
        m60 = -(l60 * m00 + l61 * m10 + l62 * m20 + l63 * m30 + l64 * m40 + l65 * m50) * l66
        m11 = l11
        m21 = -(l21 * m11) * l22
        m31 = -(l31 * m11 + l32 * m21) * l33
        m41 = -(l41 * m11 + l42 * m21 + l43 * m31) * l44
        m51 = -(l51 * m11 + l52 * m21 + l53 * m31 + l54 * m41) * l55
        m61 = -(l61 * m11 + l62 * m21 + l63 * m31 + l64 * m41 + l65 * m51) * l66
        m22 = l22
        m32 = -(l32 * m22) * l33
        m42 = -(l42 * m22 + l43 * m32) * l44
        m52 = -(l52 * m22 + l53 * m32 + l54 * m42) * l55
        m62 = -(l62 * m22 + l63 * m32 + l64 * m42 + l65 * m52) * l66
        m33 = l33
        m43 = -(l43 * m33) * l44
        m53 = -(l53 * m33 + l54 * m43) * l55
        m63 = -(l63 * m33 + l64 * m43 + l65 * m53) * l66
        m44 = l44
        m54 = -(l54 * m44) * l55
        m64 = -(l64 * m44 + l65 * m54) * l66
        m55 = l55
        m65 = -(l65 * m55) * l66
        m66 = l66
        f = w[FREE[0] + k]
        w[INVERSE[0] + k] = f * m00
        w[INVERSE[1] + k] = f * m10
        w[INVERSE[3] + k] = f * m20
        w[INVERSE[6] + k] = f * m30
        w[INVERSE[10] + k] = f * m40
        w[INVERSE[15] + k] = f * m50
        w[INVERSE[21] + k] = f * m60
        f = w[FREE[1] + k]
        w[INVERSE[2] + k] = f * m11
        w[INVERSE[4] + k] = f * m21
        w[INVERSE[7] + k] = f * m31
        w[INVERSE[11] + k] = f * m41
        w[INVERSE[16] + k] = f * m51
        w[INVERSE[22] + k] = f * m61
        f = w[FREE[2] + k]
        w[INVERSE[5] + k] = f * m22
        w[INVERSE[8] + k] = f * m32
        w[INVERSE[12] + k] = f * m42
        w[INVERSE[17] + k] = f * m52
        w[INVERSE[23] + k] = f * m62
        f = w[FREE[3] + k]
        w[INVERSE[9] + k] = f * m33
        w[INVERSE[13] + k] = f * m43
        w[INVERSE[18] + k] = f * m53
        w[INVERSE[24] + k] = f * m63
        f = w[FREE[4] + k]
        w[INVERSE[14] + k] = f * m44
        w[INVERSE[19] + k] = f * m54
        w[INVERSE[25] + k] = f * m64
        f = w[FREE[5] + k]
        w[INVERSE[20] + k] = f * m55
        w[INVERSE[26] + k] = f * m65
        f = w[FREE[6] + k]
        w[INVERSE[27] + k] = f * m66
