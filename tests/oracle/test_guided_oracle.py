"""Guided fits against plain numpy and scipy: fit, evidence, site, prior, scan, linking."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from livespt.camera import Emccd, Ideal
from livespt.jit import read_only
from livespt.link import kernels as link_kernels
from livespt.link import motion_kernels as track
from livespt.link.bank import Elapsed
from livespt.localize import fit as fitting
from livespt.localize import guided_kernels as kernels
from livespt.localize import guided_prior_kernels as priors
from livespt.localize import guided_scan_kernels as scans
from livespt.localize.guided import (
    frame_maps,
    make_answer,
    make_pairing,
    make_space,
    matched_moments,
)
from livespt.localize.table import PER_Z


def beside(name: str) -> ModuleType:
    """Load a module that lies beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


naive, linking = beside("naive_guided"), beside("test_link_kernels")
a_bank, a_motion, a_sheet, matrix = (
    linking.a_bank, linking.a_motion, linking.a_sheet, linking.matrix
)  # fmt: skip
EXPOSURE_S: float = linking.EXPOSURE_S
SIGMA, SIDE = 1.1, 9


def some_modes(rng, x, y):
    """A narrow and a wide mode about a place, tilted."""
    modes = np.zeros((2, 6))
    for mode, weight, sd in zip(modes, (0.8, 0.2), (0.5, 1.5), strict=True):
        root = rng.normal(size=(2, 2)) * 0.4 * sd
        v = root @ root.T + 0.5 * sd**2 * np.eye(2)
        mode[:] = weight, *(np.array([x, y]) + 0.2 * rng.normal(size=2)), v[0, 0], v[0, 1], v[1, 1]
    return modes


def look(camera, adu, modes, photons, alarm=0.01):
    """One kernel call on a whole frame."""
    asked = kernels.Asked(
        modes[None], np.array([photons]), np.array([SIGMA]), np.array([np.log(alarm)])
    )
    answer = make_answer(1)
    kernels.look_all(
        read_only(adu), frame_maps(camera), fitting.table_for(camera), PER_Z, asked, SIDE,
        np.zeros((1, 5)), 0, fitting.make_region(scans.SCAN_SIDE), fitting.make_scratch(),
        make_space(len(modes)), answer,
    )  # fmt: skip
    return answer


#: The table of an EMCCD is good to a few thousandths, the shifted Poisson is exact here.
compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the table takes an hour to fill")
CAMERAS = {"ideal": (Ideal(), 2e-2), "emccd": (Emccd(50.0, 2.0, 10.0, 200.0), 6e-2)}


@pytest.mark.parametrize(
    ("name", "photons", "background"),
    [
        ("ideal", 60.0, 2.0),
        ("ideal", 150.0, 1.0),
        pytest.param("emccd", 100.0, 1.0, marks=compiled),
    ],
)
def test_the_fit_its_evidence_and_its_site_are_those_of_the_twin(rng, name, photons, background):
    """In units of standard deviations: scoring stops at steps of .01 of one."""
    camera, close = CAMERAS[name]
    truth = np.array([4.0, 4.0, photons, background])
    truth[:2] += rng.uniform(-0.4, 0.4, 2)
    adu = camera.sample(naive.rates(truth, SIGMA, SIDE), rng)  # the frame is the region
    modes = some_modes(rng, *truth[:2])
    prior = (photons, 0.4 * photons)
    answer = look(camera, adu, modes, prior)
    best, ln_odds, mean, covariance, inverse = naive.look(camera, adu, SIGMA, modes, prior, truth)
    assert answer.code[0] == kernels.KEPT
    assert answer.ln_odds[0] == pytest.approx(ln_odds, abs=3 * close)
    sd = np.sqrt(np.diag(inverse))
    np.testing.assert_allclose((answer.theta[0, :4] - best) / sd, 0, atol=close)
    np.testing.assert_allclose((answer.site[0, :2] - mean) / sd[:2], 0, atol=close)
    np.testing.assert_allclose(
        answer.site[0, 2:], covariance[[0, 0, 1], [0, 1, 1]], rtol=close, atol=close * 0.02
    )
    np.testing.assert_allclose(answer.sd[0], sd[2:], rtol=close)


def test_the_priors_slope_is_that_of_its_density(rng):
    modes = some_modes(rng, 3.0, 5.0)
    terms, pull = np.zeros((2, 6)), np.zeros(6)
    at, site = np.array([3.6, 4.1]), np.array([0.0, 0.0, 0.3, 0.05, 0.2])
    priors.sharpen(modes, np.zeros(5), terms)
    priors.pull_of(terms, *at, pull)
    slope = [
        (naive.ln_mixture(modes, at + step) - naive.ln_mixture(modes, at - step)) / 2e-5
        for step in 1e-5 * np.eye(2)
    ]
    np.testing.assert_allclose(pull[:2], slope, rtol=1e-6)
    np.testing.assert_allclose(matrix(*pull[2:5]), naive.precision(modes, at), rtol=1e-9)
    np.testing.assert_allclose(pull[5], naive.ln_mixture(modes, at), rtol=1e-12)
    wider = modes.copy()
    wider[:, 3:] += site[2:]
    priors.sharpen(modes, site, terms)
    np.testing.assert_allclose(
        priors.log_density(terms, *at), naive.ln_mixture(wider, at), rtol=1e-12
    )


def test_moments_are_those_of_the_mixture(rng):
    modes = some_modes(rng, 3.0, 5.0)
    draws = 400_000  # means to 2e-3 of an s.d., variances to 3e-3
    which = rng.choice(2, draws, p=modes[:, 0])
    points = np.empty((draws, 2))
    for k, mode in enumerate(modes):
        mine = which == k
        points[mine] = rng.multivariate_normal(mode[1:3], matrix(*mode[3:]), mine.sum())
    x, y, *v = matched_moments(modes[None])[0]
    np.testing.assert_allclose((x, y), points.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(matrix(*v), np.cov(points.T), atol=0.02)
    centre = np.zeros(5)
    priors.centre_of(modes, centre)
    np.testing.assert_allclose(centre[:3], (x, y, max(v[0], v[2])), rtol=1e-12)


def test_the_scan_starts_at_the_best_place_of_its_grid(rng):
    """Twin: efficient score and information of N at N = 0, written out for every place."""
    camera = Ideal()
    adu = camera.sample(naive.rates((8.3, 6.1, 60.0, 2.0), SIGMA, 15), rng)
    modes, photons = some_modes(rng, 7.4, 6.8), np.array([60.0, 24.0])
    region, space = fitting.make_region(15), make_space(2)
    scratch, table = fitting.make_scratch(), fitting.table_for(camera)
    kernels.load(
        adu, frame_maps(camera), table, PER_Z, 0, 0, 15, np.zeros((0, 5)), 0, region, scratch
    )
    centre, theta = np.zeros(5), np.zeros(5)
    priors.sharpen(modes, centre, space.terms)
    priors.centre_of(modes, centre)
    space.null[2:] = 0.0, 1.0, SIGMA
    scans.scan(photons, SIGMA, 0, 0, centre, 15, region, table, scratch, space, theta)
    background, tight = adu.mean(), photons[1] ** -2.0
    score, weight = adu / background - 1, np.full(adu.shape, 1 / background)
    gain = {}
    for gy in range(-6, 7):
        for gx in range(-6, 7):
            x, y = centre[:2] + scans.step_of(centre, SIGMA) * np.array([gx, gy])
            u = naive.rates((x, y, 1.0, 0.0), SIGMA, 15)
            V = (weight * u * u).sum() - (weight * u).sum() ** 2 / weight.sum() + tight
            U = (score * u).sum() + photons[0] * tight
            ln_p = max(naive.ln_mixture([mode], (x, y)) for mode in modes)
            gain[x, y] = (U * U / V / 2 + ln_p, U / V)
    best = max(gain, key=lambda place: gain[place][0])
    np.testing.assert_allclose(theta[:2], best, rtol=1e-12)
    np.testing.assert_allclose(theta[2], gain[best][1], rtol=1e-3)


@pytest.mark.parametrize(("n", "m"), [(5, 7), (12, 6), (3, 0)])
def test_the_nearest_spots_explain_predictions_first(rng, n, m):
    def places(count):
        v = [np.linalg.inv(np.cov(rng.normal(size=(2, 8)))) for _ in range(count)]
        xy = rng.uniform(0, 8, (count, 2))
        return np.array([(*p, c[0, 0], c[0, 1], c[1, 1]) for p, c in zip(xy, v, strict=True)])

    centres, spots = places(n), places(m).reshape(m, 5)
    owner = np.zeros(n, np.int64)
    priors.explain(centres, spots, 9.0, owner, make_pairing(n, m))
    np.testing.assert_array_equal(owner, naive.explain(centres, spots, 9.0))


def test_predictions_are_the_tracks_carried_on_and_blurred(rng):
    motion = a_motion()
    bank, same = a_bank(rng, 2), a_bank(rng, 2)
    same.modes[:], same.life[:] = bank.modes, bank.life
    modes, p_on, blur = np.zeros((2, 3, 6)), np.zeros(2), np.zeros(2)
    elapsed = Elapsed(2, 0.02, 2, EXPOSURE_S)
    link_kernels.look_ahead(bank, 2, motion, elapsed, linking.scratch(2), modes, p_on, blur)
    linking.beside.predict(same, 2, motion, elapsed, linking.scratch(2))
    more = 2 * motion.D_um2_s * EXPOSURE_S / 3
    np.testing.assert_array_equal(modes[:, :, [0, 1, 2, 4]], same.modes[:2][:, :, [0, 1, 2, 4]])
    np.testing.assert_allclose(modes[:, :, 3] - same.modes[:2, :, 3], [more, more], rtol=1e-9)
    np.testing.assert_array_equal(p_on, same.life[:2, 0])
    typical = np.exp(same.modes[:2, :, 0] @ np.log(motion.D_um2_s))
    np.testing.assert_allclose(blur, typical * EXPOSURE_S / 3, rtol=1e-12)


def test_a_guided_link_has_the_odds_of_bayes_rule(rng):
    """With false = f / R, the odds of its own track are R on / (1 - on)."""
    bank, motion = a_bank(rng, 1), a_motion()
    _, sheet = a_sheet(rng, 1)
    spot, evidence = sheet.spots[0], 7.0
    density = sum(
        w
        * multivariate_normal.pdf(
            spot[:2], (x, y), matrix(*p) + 2 * d * EXPOSURE_S / 3 * np.eye(2) + matrix(*spot[2:5])
        )
        for (w, x, y, *p), d in zip(bank.modes[0], motion.D_um2_s, strict=True)
    )
    spot[5] = density / evidence
    on, off, _ = bank.life[0]
    _, lit = track.odds_of(on, motion.p_detect)
    far = np.full((3, 2), np.inf)
    ratio = track.ratio_of(
        bank.modes, 0, sheet.spots, 0, motion.D_um2_s, EXPOSURE_S, np.nan, lit, far
    )
    odds = evidence * on / (1 - on)
    assert ratio == pytest.approx(odds, rel=1e-9)
    track.believe(bank.life, 0, -np.log(ratio))
    want = np.array([evidence * on, off, 1 - on - off])
    np.testing.assert_allclose(bank.life[0, :2], (want / want.sum())[:2], rtol=1e-9)
