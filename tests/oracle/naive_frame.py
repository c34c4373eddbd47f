"""What `framekernels` do, in numpy: a frame absorbed, its spots and links counted."""

from __future__ import annotations

import numpy as np


def absorbed(score, half, information, theta, most):
    """Information, covariance and theta after one frame."""
    information = information + np.triu(half) + np.triu(half, 1).T
    covariance = np.linalg.inv(information)
    return information, covariance, theta + np.clip(covariance @ score[1:], -most, most)


def figures(table):
    """Median s.d., photons, background and width of the good spots, each as a list of values."""
    good = table[table["status"] == 0]
    sd = np.sqrt((good["var_x_um2"] + good["var_y_um2"]) / 2)
    return sd, good["photons"], good["bg_photons"], good["sigma_um"][good["guided"] == 0]


def quartiles(values):
    """Logarithms of the quartiles."""
    return np.log(np.percentile(values, (25, 50, 75)))
