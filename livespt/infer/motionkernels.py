"""From the parameter vector to D, ln T, ln pi and c with their derivatives.

Row j of T is a softmax whose reference is the diagonal: T_jk = e^l_jk / (1 + sum_m e^l_jm), so
d ln T_jk / d l_jm = [k = m] - T_jm. The stationary distribution solves pi (I - T) = 0,
sum pi = 1; differentiated, d pi (I - T) = pi dT, sum d pi = 0: one linear system for both. The
state in which a track begins is a softmax of K weights.
"""

from __future__ import annotations

import math

from livespt.infer.arrays import Array
from livespt.jit import kernel


@kernel
def fill_motion(
    theta: Array, D: Array, ln_T: Array, ln_pi: Array, ln_begin: Array, system: Array
) -> None:
    """Write D, ln T, ln pi and ln begin (duals) for `theta`; `system` is (K, K + 1) scratch."""
    n_states, _, n_duals = ln_T.shape
    ln_T[:] = 0.0
    for j in range(n_states):
        D[j] = math.exp(theta[j])
        _fill_row(theta, j, ln_T)
    _solve_stationary(ln_T, ln_pi, system)
    last = n_states * n_states if n_duals > 1 else 0  # pi depends on the logits alone
    for q in range(1 + n_states, 1 + last):
        _solve_derivative(ln_T, ln_pi, q, system)
    for k in range(n_states):
        p = max(ln_pi[k, 0], 1e-300)
        ln_pi[k, 0] = math.log(p)
        for q in range(1 + n_states, 1 + last):
            ln_pi[k, q] /= p
    _fill_begin(theta, n_states * n_states, ln_begin)


@kernel
def _fill_begin(theta: Array, at: int, ln_begin: Array) -> None:
    """Write the softmax of theta[at : at + K]."""
    n_states, n_duals = ln_begin.shape
    high = theta[at]
    for k in range(1, n_states):
        high = max(high, theta[at + k])
    total = 0.0
    for k in range(n_states):
        total += math.exp(theta[at + k] - high)
    norm = high + math.log(total)
    ln_begin[:] = 0.0
    for k in range(n_states):
        ln_begin[k, 0] = theta[at + k] - norm
        if n_duals > 1:
            for i in range(n_states):
                ln_begin[k, 1 + at + i] = (1.0 if i == k else 0.0) - math.exp(theta[at + i] - norm)


@kernel
def _fill_row(theta: Array, j: int, ln_T: Array) -> None:
    n_states, _, n_duals = ln_T.shape
    at = n_states + j * (n_states - 1)  # first logit of the row
    high = 0.0
    for i in range(n_states - 1):
        high = max(high, theta[at + i])
    total = math.exp(-high)
    for i in range(n_states - 1):
        total += math.exp(theta[at + i] - high)
    norm = high + math.log(total)
    for k in range(n_states):
        own = at + k - (1 if k > j else 0)
        ln_T[j, k, 0] = (0.0 if k == j else theta[own]) - norm
        if n_duals > 1:
            for i in range(n_states - 1):
                ln_T[j, k, 1 + at + i] = -math.exp(theta[at + i] - norm)
            if k != j:
                ln_T[j, k, 1 + own] += 1.0


@kernel
def _solve_stationary(ln_T: Array, pi: Array, system: Array) -> None:
    n_states = pi.shape[0]
    _set_matrix(ln_T, system)
    for i in range(n_states):
        system[i, n_states] = 1.0 if i == n_states - 1 else 0.0
    _eliminate(system)
    for k in range(n_states):
        pi[k, 0] = system[k, n_states]


@kernel
def _solve_derivative(ln_T: Array, pi: Array, q: int, system: Array) -> None:
    n_states = pi.shape[0]
    _set_matrix(ln_T, system)
    for k in range(n_states - 1):
        total = 0.0
        for j in range(n_states):
            total += pi[j, 0] * math.exp(ln_T[j, k, 0]) * ln_T[j, k, q]
        system[k, n_states] = total
    system[n_states - 1, n_states] = 0.0
    _eliminate(system)
    for k in range(n_states):
        pi[k, q] = system[k, n_states]


@kernel
def _set_matrix(ln_T: Array, system: Array) -> None:
    """Write the columns of I - T as equations; the last one is replaced by sum = 1."""
    n_states = ln_T.shape[0]
    for k in range(n_states):
        for j in range(n_states):
            if k == n_states - 1:
                system[k, j] = 1.0
            elif j == k:
                away = 0.0
                for m in range(n_states):
                    if m != j:
                        away += math.exp(ln_T[j, m, 0])
                system[k, j] = away
            else:
                system[k, j] = -math.exp(ln_T[j, k, 0])


@kernel
def _eliminate(system: Array) -> None:
    """Solve in place by Gauss-Jordan with row pivots; the solution is left in the last column."""
    n = system.shape[0]
    for i in range(n):
        best = i
        for r in range(i + 1, n):
            if abs(system[r, i]) > abs(system[best, i]):
                best = r
        for c in range(n + 1):
            system[i, c], system[best, c] = system[best, c], system[i, c]
        pivot = system[i, i]
        for c in range(n + 1):
            system[i, c] /= pivot
        for r in range(n):
            if r != i:
                factor = system[r, i]
                for c in range(n + 1):
                    system[r, c] -= factor * system[i, c]


@kernel
def log_matrix(T: Array, out: Array, power: Array, spare: Array) -> bool:
    """Write ln T = -sum_n (I - T)^n / n; return False where the series does not converge."""
    n_states = T.shape[0]
    out[:] = 0.0
    for i in range(n_states):
        for k in range(n_states):
            power[i, k] = 1.0 if i == k else 0.0
    for n in range(1, 400):
        largest = 0.0
        for i in range(n_states):
            for k in range(n_states):
                spare[i, k] = power[i, k]
                for j in range(n_states):
                    spare[i, k] -= power[i, j] * T[j, k]
        for i in range(n_states):
            for k in range(n_states):
                power[i, k] = spare[i, k]
                out[i, k] -= power[i, k] / n
                largest = max(largest, abs(power[i, k]) / n)
        if largest < 1e-14:
            return True
        if largest > 1e3:
            return False
    return False
