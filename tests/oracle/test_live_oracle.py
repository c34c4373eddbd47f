"""A frame of the live filter in one call, against its kernels called one by one."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer import livekernels as live
from livespt.infer.answerkernels import fill_model
from livespt.infer.arrays import EVERYWHERE, Seen, Step, bank, scratch
from livespt.infer.bankkernels import step_bank
from livespt.infer.framekernels import absorb
from livespt.infer.layout import n_duals, n_parameters
from livespt.infer.motion import answer_dtype, motion, pack, uniform_switching

K, N, INTERVAL_S = 2, 11, 0.02
LAGS = np.array([0, 2])


def frames(n):
    """Eleven molecules at rest or on the way."""
    rng = np.random.default_rng(3)
    x = np.cumsum(rng.normal(0, 0.1, (n, N, 2)), axis=0)
    for i in range(n):
        spot = np.column_stack([x[i], np.full((N, 2), 1e-3), np.zeros(N)])
        yield Seen(i, i * INTERVAL_S, 0.01, np.arange(N), spot, np.ones(N))


def a_step():
    q = n_parameters(K)
    return Step(np.empty((N, 5)), np.empty((N, K)), np.empty(1 + q), np.empty((q, q)))


class OneByOne:
    """The parameters, a bank, and what a frame does to them."""

    def __init__(self):
        q = n_parameters(K)
        self.theta = pack(np.array([1.0, 0.1]), uniform_switching(K, 0.1), 1.1)
        self.information = 100.0 * np.eye(q)
        self.bank, self.n_steps = bank(16, K, n_duals(K), 3), 0

    def take(self, seen):
        """Return what `take_frame` notes, and the model's words with all occupancies a half."""
        at, step, q = motion(self.theta, K), a_step(), n_parameters(K)
        counted = step_bank(self.bank, seen, at, INTERVAL_S, scratch(), step)
        per_step = self.information[:K, :K].sum() / max(self.n_steps, 1)
        self.n_steps += counted
        covariance = np.linalg.inv(self.information)
        if counted:
            sums = self.information, covariance
            assert absorb(step.score, step.information, *sums, self.theta, np.empty((q, q)))
        now, words = motion(self.theta, K), np.empty(answer_dtype(K, 2).itemsize // 8)
        fill_model(now, covariance, np.full((2, K), 0.5), INTERVAL_S, words, np.empty((3, K, K)))
        noted = counted, step.score[0], step.score[1 : 1 + K].sum(), per_step, now.D.max(), *at.D
        return step, noted, words


def test_a_frame_in_one_call_is_its_parts():
    parts, whole = OneByOne(), OneByOne()
    q, numbers = n_parameters(K), np.zeros(live.N_NUMBERS)
    *model, numbers[live.C2] = motion(whole.theta, K)
    numbers[live.INTERVAL_S], numbers[live.LEARNS] = INTERVAL_S, 1.0
    step, spare = a_step(), (np.empty((q, q)), np.empty((K, K + 1)), np.empty((3, K, K)))
    covariance = np.linalg.inv(whole.information)
    occupancy, departed = np.full((2, K), 0.5), np.zeros((3, 2 + K))
    for seen in frames(6):
        wanted, noted, model_words = parts.take(seen)
        numbers[: live.INTERVAL_S] = seen.frame, seen.t_s, seen.exposure_s
        words = np.empty(model_words.size)
        live.take_frame(
            tuple(whole.bank), (seen.slot, seen.spot, seen.weight, EVERYWHERE), numbers,
            tuple(model), (whole.theta, whole.information, covariance),
            (LAGS, departed, occupancy, words), (scratch(), *step, *spare),
        )  # fmt: skip
        whole.n_steps += int(numbers[live.COUNTED])
        numbers[live.N_STEPS] = whole.n_steps
        for found, value in zip(step, wanted, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)
        said = live.COUNTED, live.LOGLIK, live.SCORE, live.PER_STEP, live.FASTEST
        found = [*numbers[list(said)], *numbers[live.D : live.D + K]]
        known = seen.frame > 0  # in the first frame nothing moves
        if known:
            np.testing.assert_allclose(found, noted, rtol=1e-9)
        assert numbers[live.SECOND] == (N if seen.frame == 1 else 0)
        assert numbers[live.ABSORBED] == (live.MOVED if known else 0.0)
        lagged = slice(-1 - 2 * K, -1)
        assert occupancy[0].sum() == pytest.approx(1.0)
        np.testing.assert_allclose(words[lagged], occupancy[:, ::-1].ravel())  # the slow one first
        words[lagged] = model_words[lagged]
        np.testing.assert_allclose(words, model_words, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.theta, parts.theta, rtol=1e-12)
