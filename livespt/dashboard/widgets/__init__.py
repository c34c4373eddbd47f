"""The parts of the window: each has a `show_state(state)` that draws what it shows of a run."""
