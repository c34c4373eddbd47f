"""The methods by name, and the one door to them."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import livespt
from livespt.refit.each import fit_each
from livespt.refit.regions import Molecules, Regions
from livespt.refit.result import Refit, RefitError
from livespt.refit.tracks import TrackTable


class Method(NamedTuple):
    """A way to refit.

    Attributes
    ----------
    where : str
        `module:function`, imported when it is asked for. The function takes the data first, then
        keywords with defaults, and returns a `Refit`; `refit` fills `method`, `seconds` and
        `provenance`.
    needs : {"tracks", "regions"}
        A `TrackTable`, or regions of pixels.
    says : str
        One line for people, with the source.
    even : bool
        It wants frames that follow each other evenly.
    """

    where: str
    needs: str
    says: str
    even: bool = False


_KINDS = {"tracks": (TrackTable,), "regions": (Regions, Molecules)}

METHODS: dict[str, Method] = {
    "history": Method(
        "livespt.refit.history:fit_history",
        "tracks",
        "maximum likelihood with the history-merging filter; the default",
    ),
    "em": Method(
        "livespt.refit.em:fit_em",
        "tracks",
        "variational EM of a hidden Markov model with blur and pointwise errors (Linden 2017)",
    ),
    "em-kalman": Method(
        "livespt.refit.em:fit_em_kalman", "tracks", "the same without blur (tau = R = 0)"
    ),
    "em-vbspt": Method(
        "livespt.refit.em:fit_em_vbspt", "tracks", "the same without blur and without errors"
    ),
    "vbspt": Method(
        "livespt.refit.vbspt:fit_vbspt",
        "tracks",
        "variational Bayes over steps, without blur and without errors (Persson 2013)",
    ),
    "covariance": Method(
        "livespt.refit.single:fit_covariance",
        "tracks",
        "one D from the covariances of steps, with or without known errors (Vestergaard 2014)",
    ),
    "ml": Method(
        "livespt.refit.single:fit_ml",
        "tracks",
        "one D by maximum likelihood with blur and pointwise errors (Berglund 2010)",
    ),
    "extrack": Method(
        "livespt.refit.extrack.method:refit_tracks",
        "tracks",
        "switching diffusion by maximum likelihood over windows of recent states (ExTrack)",
    ),
    "gf-msd": Method(
        "livespt.refit.gaussfit:gf_msd",
        "regions",
        "Gaussian fit per frame, then a line through the MSD (as in Lin & Andersson 2021)",
    ),
    "gf-mle": Method(
        "livespt.refit.gaussfit:gf_mle",
        "regions",
        "Gaussian fit per frame, then Berglund's likelihood (Lin & Andersson 2021)",
    ),
    "mle-scmos": Method(
        "livespt.refit.gaussfit:mle_scmos",
        "regions",
        "sCMOS likelihood per frame, then Berglund's likelihood (Lin & Andersson 2021)",
    ),
    "l-ml": Method(
        "livespt.refit.laplace:l_ml",
        "regions",
        "pixels and motion at once by Gaussian sites; the point-mass filter where it is dim",
    ),
    "u-em": Method(
        "livespt.refit.unscented:u_em",
        "regions",
        "unscented Kalman filter and smoother with EM (Lin & Andersson 2021)",
        even=True,
    ),
    "smc-em": Method(
        "livespt.refit.particles:smc_em",
        "regions",
        "particle filter and smoother with EM (Lin & Andersson 2021)",
        even=True,
    ),
    "point-mass": Method(
        "livespt.refit.laplace:point_mass",
        "regions",
        "the exact pixel likelihood on a grid of places: the reference",
    ),
}


def refit(data: Any, method: str, **settings: Any) -> Refit:
    """Fit tracks or pixels anew, by a named method.

    Parameters
    ----------
    data : TrackTable, Regions or Molecules
        What `METHODS[method].needs`. Of many molecules, each is fitted alone and D is averaged.
    method : str
    **settings
        Keywords of the method's own function.

    Raises
    ------
    RefitError
        Unknown method or setting, the wrong kind of data, or data that cannot be fitted.
    """
    chosen = find(method)
    fit = function_of(chosen)
    if not isinstance(data, _KINDS[chosen.needs]):
        raise RefitError(f"{method} fits {chosen.needs}; it was given {type(data).__name__}")
    check_settings(method, settings)
    began_s = time.perf_counter()
    if isinstance(data, Molecules):
        found = fit_each(data, fit, settings)
    else:
        found = fit(data, **settings)
    plain = {name: value for name, value in settings.items() if not callable(value)}
    return found._replace(
        method=method,
        seconds=time.perf_counter() - began_s,
        provenance={
            "livespt": livespt.__version__,
            "source": str(data.source),
            "settings": plain,
            **found.provenance,
        },
    )


def find(method: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    RefitError
        There is none of that name.
    """
    if method not in METHODS:
        raise RefitError(f"no method '{method}' (has: {', '.join(METHODS)})")
    return METHODS[method]


def check_settings(method: str, settings: Iterable[str]) -> None:
    """Refuse names that are no settings of a method.

    Raises
    ------
    RefitError
        Unknown method or setting.
    """
    known = list(inspect.signature(function_of(find(method))).parameters)[1:]
    for name in settings:
        if name not in known:
            raise RefitError(f"{method}: no setting '{name}' (has: {', '.join(known)})")


def function_of(method: Method) -> Callable[..., Refit]:
    """Import the method's function."""
    module, name = method.where.split(":")
    return getattr(importlib.import_module(module), name)
