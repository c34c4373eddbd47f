"""Real frames, through the localizer.

The settings below are read off the data, for nobody wrote them down:

- pMHC movie (EMCCD, 0.16 um pixels): photon transfer over the pixels (variance of successive
  differences against mean) rises by ~17 ADU with F = 2, so ~8.5 ADU per electron, and meets a
  readout noise of ~9 ADU at ~204 ADU. Spots are 1.15 px wide (median of the fits).
- SMLM challenge frame: dark pixels stand at 100 ADU; variance rises by ~1.8 ADU per ADU, which a
  Poisson camera of 1.8 ADU per electron has. Spots are 0.76 px wide.
"""

from __future__ import annotations

import csv

import numpy as np
import tifffile
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from livespt.camera import Emccd, Scmos
from livespt.localize import Localizer
from livespt.types import FitStatus, Frame

PMHC_CAMERA, PMHC_SIGMA_PX = Emccd(8.5, 2.0, 9.0, 204.0), 1.15
CHALLENGE_CAMERA, CHALLENGE_SIGMA_PX = Scmos(1.8, 100.0, 1.0), 0.76


def accepted_spots(localizer, frame, pixel_um):
    table = localizer(frame).table
    ok = table[table["status"] == FitStatus.OK]
    return np.column_stack([ok["x_um"], ok["y_um"]]) / pixel_um


def test_accepted_positions_of_the_pmhc_movie_are_found(shared_data):
    movie = np.load(shared_data / "real-pmhc-af647.npz")["frames"]
    accepted = np.load(shared_data / "real-pmhc-af647-accepted-crocker-grier.npz")
    localizer = Localizer(PMHC_CAMERA, 0.16, 0.16 * PMHC_SIGMA_PX, movie.shape[1:])
    distances = []
    for k, adu in enumerate(movie):
        found = accepted_spots(localizer, Frame(k, 0.0, adu, 0.01), 0.16)
        distances.append(cKDTree(found).query(accepted[str(k)][:, :2])[0])
    distance = np.concatenate(distances)
    assert distance.size == 76
    assert np.mean(distance < 0.5) >= 0.9
    assert np.median(distance) < 0.15  # two methods agree within their precision


def test_emitters_of_the_challenge_frame_are_found(shared_data):
    adu = tifffile.imread(shared_data / "smlm-challenge-tubulins-frame20.tif").astype(np.uint16)
    with open(shared_data / "smlm-challenge-tubulins-frame20-truth.csv") as file:
        rows = list(csv.DictReader(file))
    truth = np.array([[float(row[k]) / 150 - 0.5 for k in ("xnano", "ynano")] for row in rows])
    localizer = Localizer(CHALLENGE_CAMERA, 0.15, 0.15 * CHALLENGE_SIGMA_PX, adu.shape, roi_px=7)
    found = accepted_spots(localizer, Frame(20, 0.0, adu, 0.01), 0.15)
    distance = np.hypot(*(truth[:, None] - found[None]).transpose(2, 0, 1))
    rows_, columns = linear_sum_assignment(np.minimum(distance, 3.0))
    hits = int(np.sum(distance[rows_, columns] < 1.0))
    # Seen: 44 found, 22 false (13 with the first detector, whose levels ran higher at the frame's
    # border), 5 missed; the limits were set after seeing such figures. Of the missed, one has a
    # neighbour at 0.4 px, two at about 3 px, two stand alone. The false ones lie 5 to 96 px from
    # any emitter: not crowding; what they are was not found out.
    assert hits >= 42
    assert len(found) - hits <= 26
    assert np.sqrt(np.mean(np.sort(distance[rows_, columns])[:40] ** 2)) < 0.2
