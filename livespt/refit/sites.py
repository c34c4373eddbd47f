"""Sites of one molecule's frames that agree with each other, and the light they are made with.

The pure part of `livespt.refit.laplace`: electrons in, a settled film out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.camera import Emccd
from livespt.infer import pixelbankkernels as bank
from livespt.infer.pixels import (
    DIM_PX,
    FASTEST_UM2_S,
    N_BANK,
    SLOWEST_UM2_S,
    Film,
    SiteModel,
    new_film,
    typical_sd_px,
)
from livespt.localize.table import PER_Z, no_table, table_of
from livespt.refit import laplacekernels as kernels
from livespt.refit.laplacekernels import Looked
from livespt.refit.looks import Array, Looks, looks_of
from livespt.refit.regions import Regions

Light = tuple[float, float]
#: Sites have settled when none moves by so many of its s.d.
SETTLED, MOST_LOOPS = 0.1, 20
#: Values of D while the sites are made for the first time.
N_COARSE = 18
#: Rounds of photons and background; they have settled when none moves by so many s.e.
MOST_ROUNDS, STILL = 30, 0.1


class Scene(NamedTuple):
    """One molecule's frames and all that does not change while it is fitted; lengths in pixels."""

    looks: Looks
    sigma_px: float
    D_px2_s: Array  # (K,) the bank
    counts: Array  # of an EMCCD, (n, P * P), less offset; (1, 1) else
    camera: Emccd | None
    side: int


class Settled(NamedTuple):
    """Sites that agree with each other, and their evidence."""

    film: Film  # `smoothed` has the positions given all frames
    curve: Array  # (2, K) ln L along each axis on the bank
    loglik: float  # at the top of both
    loops: int  # less than 0: they did not settle


def scene_of(regions: Regions) -> Scene:
    """Return what a fit of regions starts from."""
    camera = regions.camera if isinstance(regions.camera, Emccd) else None
    n, side, _ = regions.adu.shape
    counts = np.zeros((1, 1))
    if camera is not None:
        counts = regions.adu.reshape(n, -1).astype(np.float64) - camera.offset_adu
    D_px2_s = np.geomspace(SLOWEST_UM2_S, FASTEST_UM2_S, N_BANK) / regions.pixel_um**2
    sigma_px = regions.sigma_um / regions.pixel_um
    return Scene(looks_of(regions), sigma_px, D_px2_s, counts, camera, side)


def single_sd_px(scene: Scene, light: Light) -> float:
    """Return the s.d. of a single frame's position at the region's centre."""
    excess, var = 1.0, float(scene.looks.v.mean())
    if scene.camera is not None:
        excess = scene.camera.excess
    return typical_sd_px(
        scene.sigma_px, light[0] / excess, (light[1] + var / excess) / excess, scene.side
    )


def settle(scene: Scene, light: Light) -> Settled:
    """Make sites from both ends until they agree; keep the likelier."""
    n, model = len(scene.looks.d), _model(scene, light)
    film = _film(scene, light)
    begun = [_begun(scene, light, film, back=turn) for turn in (False, True)]
    first = _settled(scene, film, n, model, begun[0])
    back = begun[1][0]
    for other in (begun[0][0], first.film.sites[:n]):
        if ((back[:, :, 0] - other[:, :, 0]) ** 2 < other[:, :, 1]).all():
            return first
    second = _settled(scene, _film(scene, light), n, model, begun[1])
    return second if second.loglik > first.loglik else first


def _film(scene: Scene, light: Light) -> Film:
    looks = scene.looks
    film = new_film(
        scene.side, scene.sigma_px, light, float(looks.v.mean()), scene.D_px2_s, len(looks.d)
    )
    film.d[:], film.v[:], film.origin[:] = looks.d, looks.v, looks.origin
    film.t_s[:], film.te_s[:] = looks.t_s, looks.te_s
    return film


def _begun(scene: Scene, light: Light, film: Film, *, back: bool) -> tuple[Array, Array]:
    """Return sites and modes made once, from the first frame on or from the last one back.

    On a coarse bank. A free path backward is as likely. An EMCCD of excess F is taken for a camera
    that counts 1 / F of the electrons.
    """
    looks, n, k = scene.looks, len(scene.looks.d), N_COARSE
    D_px2_s = np.geomspace(scene.D_px2_s[0], scene.D_px2_s[-1], k)
    d, v = looks.d, looks.v
    if scene.camera is not None:
        excess = scene.camera.excess
        d, v, light = d / excess, v / excess**2, (light[0] / excess, light[1] / excess)
        film = _film(scene._replace(looks=looks._replace(v=v)), light)
    turn = slice(None, None, -1) if back else slice(None)
    t_s = -(looks.t_s + looks.te_s) if back else looks.t_s
    quick = film._replace(
        d=d[turn].copy(), v=v[turn].copy(), origin=looks.origin[turn].copy(), t_s=t_s[turn].copy(),
        te_s=looks.te_s[turn].copy(), bank=np.zeros((n, 2, 3, k)), D_px2_s=D_px2_s,
        ln_D=np.log(D_px2_s),
        log_weights=np.zeros((2, k)), weights=np.zeros((2, k)), sites=np.zeros((n, 2, 2)),
        at=np.zeros((n, 2)),
    )  # fmt: skip
    kernels.start(quick, n, _model(scene, light, v))
    return quick.sites[turn].copy(), quick.at[turn].copy()


def _model(scene: Scene, light: Light, v: Array | None = None) -> SiteModel:
    if scene.camera is not None and v is None:
        sd_px = single_sd_px(scene, light)
    else:
        var = float((scene.looks.v if v is None else v).mean())
        sd_px = typical_sd_px(scene.sigma_px, light[0], light[1] + var, scene.side)
    return SiteModel(scene.sigma_px, sd_px > DIM_PX, False)


def _settled(
    scene: Scene, film: Film, n: int, model: SiteModel, begun: tuple[Array, Array]
) -> Settled:
    film.sites[:], film.at[:] = begun
    if scene.camera is not None:
        model = model._replace(dim=False)  # its data are numbers that hold near one place
    table = no_table() if scene.camera is None else table_of(scene.camera)
    looked = Looked(scene.counts, table, PER_Z, np.zeros(n), np.zeros(n, np.uint8))
    tops = np.zeros(2)
    loops = kernels.settle(film, n, model, looked, (SETTLED, float(MOST_LOOPS)), tops)
    bank.smooth(film, 0, n - 1, False)
    curve = film.log_weights + tops[:, None]
    loglik = float(curve.max(axis=1).sum() + kernels.offsets(film, n, model, looked))
    return Settled(film, curve, loglik, loops)


def first_light(scene: Scene) -> Light:
    """Guess photons and background: the border of the regions holds little of the molecule."""
    looks, side = scene.looks, scene.side
    electrons = (looks.d - looks.v).reshape(-1, side, side)
    border = np.ones((side, side), np.bool_)
    border[1:-1, 1:-1] = False
    bg = max(float(electrons[:, border].mean()), 0.01)
    photons = float(electrons.sum(axis=(1, 2)).mean()) - bg * side**2
    return max(photons, 1.0), bg


def fit_light(scene: Scene, known: tuple[float | None, float | None]) -> tuple[Light, Light, bool]:
    """Fit photons and background, the same in all frames, along with the positions (EM).

    Parameters
    ----------
    scene : Scene
    known : (photons or None, bg_photons or None)
        What is given stays.

    Returns
    -------
    light, sds, settled
        Standard errors (0 where given) from the expected information, positions known.
    """
    guess = first_light(scene)
    light = np.array([g if k is None else k for g, k in zip(guess, known, strict=True)])
    free = np.array([k is None for k in known])
    out, sds, film = np.empty(5), np.zeros(2), None
    for _ in range(MOST_ROUNDS):
        film = settle(scene, (float(light[0]), float(light[1]))).film
        before = light.copy()
        for _ in range(3):
            film.light[:] = light
            kernels.light_step(film, len(scene.looks.d), scene.sigma_px, out)
            info = np.array([[out[2], out[3]], [out[3], out[4]]])[np.ix_(free, free)]
            cov = np.linalg.inv(info)
            step = cov @ out[:2][free]
            light[free] = np.maximum(light[free] + step, 0.2 * light[free])
            sds[free] = np.sqrt(np.diag(cov))
        if (np.abs(light - before) <= STILL * np.maximum(sds, 1e-12)).all():
            return (float(light[0]), float(light[1])), (float(sds[0]), float(sds[1])), True
    return (float(light[0]), float(light[1])), (float(sds[0]), float(sds[1])), False


def widths_of(scene: Scene, D_px2_s: Array) -> Array:
    """Return the widths of the image along x and y, which motion in the exposure widens."""
    te_s = float(scene.looks.te_s[0])
    return np.sqrt(scene.sigma_px**2 + np.asarray(D_px2_s) * te_s / 3.0)
