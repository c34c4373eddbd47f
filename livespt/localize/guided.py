"""Guided fits: a molecule that a track predicts is looked for where it should be (SCIENCE 6, 7).

A blind detector must be deaf to a whole frame's noise: one false spot in ten frames of 65,000
pixels asks for 5 standard deviations. A track narrows the search to a few pixels, and there much
dimmer molecules can be told from noise. Predictions that no blind spot explains are looked for:

1. *Start*: a matched filter over the prior's extent, as exact as the camera: with score s_i and
   information w_i of each pixel about its rate, background alone, and the share u_i of the spot's
   light, U = sum s_i u_i and V = sum w_i u_i^2 (less what the background explains) give the best N
   under its prior; the place with the greatest sum of its gain and ln prior is the start.
2. *Optimum* of prior x likelihood over theta = (x, y, N, b) by Fisher scoring, width held at
   sqrt(sigma^2 + D te / 3). The prior is p(x, y), the track's prediction, a mixture over motion
   modes, each three times as wide as predicted, lest long steps be found less often than short
   ones and D come out low; N ~ normal about the track's own past photons; b is free. The light of
   the spots found blind is known background.
3. *Evidence* that the molecule is there, by Laplace, against background alone,

       ln R = ln L(theta*) + ln p(theta*) + (3/2) ln 2 pi - (1/2) ln |H| - ln L(b*) + (1/2) ln J_b.

   Where nothing is, the mean of R is 1, whence P(R > r) = kappa / r with some kappa < 1. Measured
   over cameras, b = 0.2 to 30, N = 20 to 300 and priors from 0.2 to 3 px, within a factor of 1.5:
   kappa = 0.11 exp(-0.22 d), d = N0 sqrt(V). So R > kappa / alarm has the false-alarm probability
   `alarm` per empty place. R > 1 is asked for besides: bright molecules have fewer false alarms.
4. *What is handed on* is the likelihood of the place alone, as a Gaussian: the expected
   information J with N and b integrated out (Schur complement) and z = x* + J^-1 h, h the gradient
   of ln L at x*, likewise reduced. The prior is in neither, so that the filter, whose prediction it
   was, counts it once: prior x N(z; x, J^-1) is the posterior found here.

A guided spot within 5 widths of a blind one is not taken: that fit had some of its light.

The row carries ``guided = 1`` and the density of false spots at its place, f(z) / R with f the
density, under the wide prior, of what was measured, so that the width cancels. The linker needs
no more (`livespt.link.linker`), and recorded spots give the live answers again.

Symbols: te exposure, u share of light, H information of the posterior, J_b that of b on
background alone, the rest as in `livespt.localize.fit`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera, electron_maps
from livespt.jit import read_only
from livespt.localize import column_kernels as columns
from livespt.localize import fit as fitting
from livespt.localize import guided_kernels as kernels
from livespt.localize import guided_prior_kernels as priors
from livespt.localize import guided_scan_kernels as scans
from livespt.localize.errors import LocalizeError
from livespt.localize.guided_kernels import Answer, Asked
from livespt.localize.guided_prior_kernels import Pairing
from livespt.localize.guided_scan_kernels import Space
from livespt.localize.table import PER_Z
from livespt.types import SPOT_DTYPE, FitStatus, Frame, Links, Predictions, Spots

#: Squared distance, in variances, within which a blind spot explains a prediction: 1 in 1000 lies
#: beyond.
GATE = 13.8
#: Factor on the predicted covariances in search and evidence. With the prediction as it is, long
#: steps are found less often than short ones, and D comes out low (measured: see the decision).
LOOSE = 9.0
#: Tracks that hardly shine are not looked for.
LEAST_ON = 0.1
#: S.d. of a molecule's photons about what it gave before, relative.
SPREAD = 0.4
#: Spots after which a track's own photons count as much as those of all; most that are remembered.
OWN_SPOTS, MEMORY = 2.0, 20.0
#: Share of the population's mean photons that one frame forgets.
FORGET = 0.02
#: Widths from a guided to the nearest blind spot, at least. A blind fit that had two molecules'
#: light moved between them, and what it left is no place: errors of 3 to 5 s.d. (measured).
APART = 5.0
#: Largest evidence ratio that is believed: a model is never quite right.
MOST_LN_ODDS = 14.0
#: Rows whose light is known, though some cannot be linked.
_LIT = (FitStatus.OK, FitStatus.BAD_WIDTH)


class Guide:
    """Look for the molecules that tracks predict and the blind pass did not find.

    Parameters
    ----------
    camera : Camera
    pixel_um, sigma_um : float
        Side of a pixel in the sample and width of an in-focus spot.
    shape : (int, int)
        Height and width of the frames.
    roi_px : int
        Side of the fitted region, odd, 5 to 15.
    alarm : float
        Probability that a row comes from a place where nothing is, per place looked at.

    Notes
    -----
    Sequential, unlike `Localizer`: it remembers each track's photons.
    """

    def __init__(
        self,
        camera: Camera,
        pixel_um: float,
        sigma_um: float,
        shape: tuple[int, int],
        *,
        roi_px: int = 9,
        alarm: float = 0.02,
    ) -> None:
        if not 0 < alarm < 1:
            raise LocalizeError(f"guided_false: {alarm:g}; expected a probability, 0 to 1")
        fitting.check_side(roi_px)
        fitting.check_sigma(sigma_um / pixel_um)
        self.pixel_um, self.sigma_um, self.roi_px = float(pixel_um), float(sigma_um), int(roi_px)
        self.shape = (int(shape[0]), int(shape[1]))
        if min(self.shape) < self.roi_px:
            raise LocalizeError(f"roi_px: {roi_px}; the frames have only {self.shape} pixels")
        self._camera, self._alarm = camera, float(alarm)
        self._maps = frame_maps(camera)
        self._region = fitting.make_region(scans.SCAN_SIDE)
        self._scratch = fitting.make_scratch()
        self._photons = PhotonMemory()

    def __call__(self, frame: Frame, spots: Spots, predictions: Predictions) -> Spots:
        """Return `spots` with the rows that the predictions add.

        Parameters
        ----------
        frame : Frame
            The pixels that `spots` come from.
        spots : Spots
            What was found blind.
        predictions : Predictions
            For this very frame.
        """
        asked = np.flatnonzero(predictions.p_on >= LEAST_ON)
        asked = asked[self._unexplained(spots, predictions, asked)]
        if not len(asked):
            return spots
        answer = self._look(frame, spots, predictions, asked)
        found = np.flatnonzero(answer.code == kernels.KEPT)
        found = found[self._stands_apart(spots.table, answer.theta[found])]
        if not len(found):
            return spots
        rows = self._rows(answer, found)
        return spots._replace(table=np.concatenate([spots.table, rows]))

    def learn(self, spots: Spots, links: Links) -> None:
        """Remember what each track's molecule gave in this frame."""
        self._photons.learn(spots, links)

    def warm_up(self) -> None:
        """Compile all kernels, on a guide of its own; this one is left as it is."""
        other = Guide(self._camera, self.pixel_um, self.sigma_um, self.shape, roi_px=self.roi_px)
        adu = np.zeros(self.shape, np.uint16)
        adu[::2] = 1
        modes = np.zeros((1, 1, 6))
        modes[0, 0] = 1.0, 0.0, 0.0, 1e-2, 0.0, 1e-2
        predictions = Predictions(np.zeros(1, np.int64), np.ones(1), modes, np.zeros(1))
        spots = Spots(0, 0.0, 1.0, 1.0, np.zeros(0, SPOT_DTYPE))
        other(Frame(0, 0.0, adu, 1.0), spots, predictions)

    def _unexplained(
        self, spots: Spots, predictions: Predictions, asked: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Say which predictions no blind spot explains."""
        table = spots.table[spots.table["status"] == FitStatus.OK]
        names = ("x_um", "y_um", "var_x_um2", "cov_xy_um2", "var_y_um2")
        found = np.stack([table[name] for name in names], axis=1)
        owner = np.empty(len(asked), np.int64)
        centres = matched_moments(predictions.modes[asked])
        priors.explain(centres, found, GATE, owner, make_pairing(len(asked), len(found)))
        return owner < 0

    def _stands_apart(self, table: NDArray[np.void], theta: NDArray[np.float64]) -> NDArray:
        """Say which guided spots are so far from any blind one that it took none of their light."""
        lights, n_lights = self._lights(table, 0)
        apart = lights[:n_lights, :2] - theta[:, None, :2]
        return np.all((apart**2).sum(axis=2) > (APART * theta[:, None, 4]) ** 2, axis=1)

    def _look(
        self, frame: Frame, spots: Spots, predictions: Predictions, asked: NDArray[np.intp]
    ) -> Answer:
        unit = self.pixel_um
        modes = predictions.modes[asked] / (1.0, unit, unit, unit**2, unit**2, unit**2)
        modes[:, :, 3:] *= LOOSE
        sigma = np.sqrt(self.sigma_um**2 + predictions.blur_um2[asked]) / unit
        mean = self._photons.expected(predictions.track_id[asked]) * spots.excitation
        mean = np.maximum(mean, 1.0)
        wanted = Asked(
            modes,
            np.stack([mean, SPREAD * mean], axis=1),
            np.minimum(sigma, self.roi_px / 3.0),
            np.full(len(asked), np.log(self._alarm)),
        )
        lights, n_lights = self._lights(spots.table, len(asked))
        answer = make_answer(len(asked))
        adu = np.ascontiguousarray(frame.adu).view()
        adu.flags.writeable = False
        kernels.look_all(
            adu, self._maps, fitting.table_for(self._camera), PER_Z, wanted, self.roi_px,
            lights, n_lights, self._region, self._scratch, make_space(modes.shape[1]), answer,
        )  # fmt: skip
        return answer

    def _lights(self, table: NDArray[np.void], more: int) -> tuple[NDArray[np.float64], int]:
        """Return the spots found blind as (x, y, N, b, sigma) in pixels, with room for `more`."""
        lit = table[np.isin(table["status"], _LIT)]
        lights = np.zeros((len(lit) + more, 5))
        names = ("x_um", "y_um", "photons", "bg_photons", "sigma_um")
        for column, name in enumerate(names):
            lights[: len(lit), column] = lit[name]
        lights[:, [0, 1, 4]] /= self.pixel_um
        return lights, len(lit)

    def _rows(self, answer: Answer, found: NDArray[np.intp]) -> NDArray[np.void]:
        unit = self.pixel_um
        theta, site = answer.theta[found], answer.site[found]
        rows = np.zeros(len(found), SPOT_DTYPE)
        rows["x_um"], rows["y_um"] = site[:, 0] * unit, site[:, 1] * unit
        rows["var_x_um2"], rows["cov_xy_um2"] = site[:, 2] * unit**2, site[:, 3] * unit**2
        rows["var_y_um2"] = site[:, 4] * unit**2
        rows["photons"], rows["bg_photons"] = theta[:, 2], theta[:, 3]
        rows["sigma_um"] = theta[:, 4] * unit
        rows["sd_photons"], rows["sd_bg_photons"] = answer.sd[found].T
        rows["loglik"] = answer.loglik[found]
        odds = np.minimum(answer.ln_odds[found], MOST_LN_ODDS)
        rows["false_um2"] = np.exp(answer.ln_prior[found] - odds) / unit**2
        rows["guided"] = 1
        return rows


class PhotonMemory:
    """What each track's molecule gave so far, and what all gave: photons at excitation 1."""

    def __init__(self) -> None:
        self._own: dict[int, tuple[float, float]] = {}
        self._sum = self._count = 0.0

    def expected(self, track_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the photons to expect of each track: its own mean, drawn to that of all."""
        common = self._sum / self._count if self._count else 0.0
        own = [self._own.get(name, (0.0, 0.0)) for name in track_id.tolist()]
        total, n = np.array(own).reshape(-1, 2).T
        return (total + OWN_SPOTS * common) / (n + OWN_SPOTS)

    def learn(self, spots: Spots, links: Links) -> None:
        """Take in one frame."""
        scale = max(spots.excitation, 1e-6)
        linked = np.flatnonzero(links.track_id >= 0)
        photons = spots.table["photons"][linked] / scale
        keep = 1.0 - FORGET
        self._sum = keep * self._sum + float(photons.sum())
        self._count = keep * self._count + len(photons)
        for name, value in zip(links.track_id[linked].tolist(), photons.tolist(), strict=True):
            total, n = self._own.get(name, (0.0, 0.0))
            fade = min(1.0, MEMORY / (n + 1.0))
            self._own[name] = (fade * (total + value), fade * (n + 1.0))
        for name in links.ended.tolist():
            self._own.pop(name, None)


def frame_maps(camera: Camera) -> tuple[NDArray[np.float64], ...]:
    """Return gain, offset and read variance as maps (H, W), or (1, 1) where all are scalars."""
    full = camera.shape or (1, 1)
    maps = (np.broadcast_to(np.asarray(m, np.float64), full) for m in electron_maps(camera))
    return tuple(read_only(m) for m in maps)


def make_space(n_modes: int) -> Space:
    """Return the work space of guided fits under mixtures of `n_modes`."""
    grid, wide = scans.GRID, columns.WIDE
    scan = ((grid, wide), (grid, wide), (3, grid, wide), wide * wide, wide * wide)
    return Space(*(np.zeros(shape) for shape in (*scan, (n_modes, 6), 6, 5, 5, 5)))


def make_pairing(n: int, m: int) -> Pairing:
    """Return the work space to pair `n` predictions with `m` spots."""
    theirs, square, taken = np.empty(m, np.int64), np.empty(m), np.empty(m, np.uint8)
    return Pairing(np.empty(n, np.int64), theirs, square, taken)


def make_answer(n: int) -> Answer:
    """Return room for the answers to `n` predictions."""
    theta, site, sd = np.zeros((n, 5)), np.zeros((n, 5)), np.zeros((n, 2))
    loglik, ln_odds, ln_least, ln_prior = np.zeros((4, n))
    return Answer(theta, site, sd, loglik, ln_odds, ln_least, ln_prior, np.zeros(n, np.int64))


def matched_moments(modes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 5) x, y, vxx, vxy, vyy of mixtures (n, K, 6)."""
    w = modes[:, :, 0] / modes[:, :, 0].sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkd->nd", w, modes[:, :, 1:3])
    dx, dy = (modes[:, :, 1 + d] - mean[:, d : d + 1] for d in range(2))
    second = (modes[:, :, 3] + dx * dx, modes[:, :, 4] + dx * dy, modes[:, :, 5] + dy * dy)
    return np.column_stack([mean, *((w * part).sum(axis=1) for part in second)])
