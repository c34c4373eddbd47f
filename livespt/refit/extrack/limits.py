"""Settings of ExTrack's that are limits: what they mean here, or why they are refused."""

from __future__ import annotations

from livespt.refit.result import RefitError

#: The one way up; ExTrack's own default.
METHOD = "bfgs"


def window_for(
    frame_len: int, nb_states: int, threshold: float | None, max_nb_states: int | None
) -> int:
    """Return how many of the newest states tell sequences apart.

    Parameters
    ----------
    frame_len, nb_states : int
    threshold : None
        ExTrack also merges sequences whose means are nearer than this; here none is merged while
        their newest states differ.
    max_nb_states : int, optional
        Most sequences at once: `frame_len` is cut to what these hold.

    Raises
    ------
    RefitError
        A threshold; fewer sequences than a step has.
    """
    if threshold is not None:
        raise RefitError(
            f"threshold: {threshold:g}; sequences are merged by their frame_len newest states "
            "alone, so leave it out (frame_len or max_nb_states bound the cost)"
        )
    if max_nb_states is None:
        return frame_len
    least = nb_states**2
    if max_nb_states < least:
        raise RefitError(f"max_nb_states: {max_nb_states}; expected {least} or more")
    while frame_len > 2 and nb_states**frame_len > max_nb_states:
        frame_len -= 1
    return frame_len


def check_method(method: str) -> None:
    """Refuse another minimiser than the default's name.

    Raises
    ------
    RefitError
    """
    if method != METHOD:
        raise RefitError(
            f"method: '{method}'; expected '{METHOD}': the likelihood is climbed by its own "
            "slopes, not by lmfit's minimisers"
        )
