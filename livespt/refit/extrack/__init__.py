"""ExTrack's model and its names: switching diffusion by maximum likelihood (SCIENCE 5).

A script moves over by its imports (`docs/how-to/fit-as-extrack.md`). The theory stands in
`windowkernels` and `slopekernels`.
"""

from __future__ import annotations

from livespt.refit.extrack.durations import Durations, durations, len_hist
from livespt.refit.extrack.fitting import param_fitting
from livespt.refit.extrack.parameters import generate_params, get_params
from livespt.refit.extrack.read import read_table, read_trackmate_xml
from livespt.refit.extrack.states import position_refinement, predict_Bs, refine
from livespt.refit.extrack.write import save_extrack_2_CSV, save_extrack_2_xml, save_params

__all__ = [
    "Durations",
    "durations",
    "generate_params",
    "get_params",
    "len_hist",
    "param_fitting",
    "position_refinement",
    "predict_Bs",
    "read_table",
    "read_trackmate_xml",
    "refine",
    "save_extrack_2_CSV",
    "save_extrack_2_xml",
    "save_params",
]
