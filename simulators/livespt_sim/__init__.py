"""A simulated microscope with ground truth: a source of frames for livespt, and its judge."""

from livespt_sim.source import SimulatedMicroscope, open_source
from livespt_sim.truth import Truth, load_truth

__all__ = ["SimulatedMicroscope", "Truth", "load_truth", "open_source"]
