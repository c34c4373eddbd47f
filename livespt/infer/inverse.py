"""The inverse of an information matrix, also where some direction is all but unknown."""

from __future__ import annotations

import numpy as np

from livespt.infer.arrays import Array

#: Least information in a direction, against the greatest, in units of each parameter's own.
LEAST = 1e-12


def inverse_of(information: Array) -> Array:
    """Return the covariance that an information matrix (q, q) leaves.

    Where rounding has made it singular, directions of which nothing is known get a very large
    variance instead of an error: molecules that stand still inform on D a hundred orders less
    than on the error scale.
    """
    try:
        return np.asarray(np.linalg.inv(information), np.float64)
    except np.linalg.LinAlgError:
        own = np.sqrt(np.maximum(np.diag(information), np.finfo(np.float64).tiny))
        values, vectors = np.linalg.eigh(information / np.outer(own, own))
        values = np.maximum(values, LEAST * max(float(values[-1]), LEAST))
        return np.asarray((vectors / values) @ vectors.T / np.outer(own, own), np.float64)
