"""Before the first frame: every kernel is compiled, and made-up frames go all the way.

What a program does for the first time takes it long: the system finds memory, the interpreter works
out what its operations mean, sockets and files are used that never were. The first ten frames of
a run so cost ten milliseconds more than others, and at 1,000 frames a second the frames behind
them wait for half a second until that is made up for. Practice takes place on a loop, a folder and
sockets of its own, and leaves no trace.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.infer import warm_up_smoother
from livespt.journal import Journal
from livespt.pipeline import Pipeline
from livespt.psf import spot_image
from livespt.sinks import BroadcastSink, JournalSink, warm_up_preview
from livespt.stages import Stages
from livespt.types import Frame
from livespt.wire import Publisher

#: Frames to practise on; in the second half of them all molecules are others.
N_FRAMES = 40
#: Molecules a frame at most, their photons, and the background per pixel.
MOLECULES, PHOTONS, BACKGROUND = 60, 500.0, 5.0
#: Pixels that a molecule has for itself at least.
ROOM_PX = 30
_ANY_PORT = "tcp://127.0.0.1:*"


def preparations(stages: Stages) -> list[tuple[str, Callable[[], object]]]:
    """Return what is done before a camera is armed, in order: its name, and how to do it."""
    parts: tuple[Any, ...] = (
        stages.source,
        stages.localizer,
        stages.guide,
        stages.linker,
        stages.online,
        stages.follow,
    )
    steps = [(type(p).__name__, p.warm_up) for p in parts if hasattr(p, "warm_up")]
    info, config = stages.source.info, stages.config
    n_states = config.infer.first_n_states
    steps.append(("smoother", lambda: warm_up_smoother(n_states, info.interval_s)))
    steps.append(("preview", warm_up_preview))
    if info.paced:  # frames of a movie wait
        workers, wire = config.localize.workers, config.wire.enabled
        steps.append(("loop", lambda: practise(stages, workers, wire=wire)))
    return steps


def practise(stages: Stages, workers: int = 1, *, wire: bool = True) -> None:
    """Take made-up frames through all stages, into a journal and out of sockets; forget them.

    Parameters
    ----------
    stages : Stages
        Whose localizer takes part; linker and filter are others, made alike.
    workers : int
        Threads that localize.
    wire : bool
        Whether the run publishes.
    """
    pixel_um = stages.config.optics.pixel_um
    with tempfile.TemporaryDirectory(prefix="livespt-", ignore_cleanup_errors=True) as folder:
        publisher = Publisher(_ANY_PORT, _ANY_PORT) if wire else None
        n_states = stages.config.infer.most_states
        journal = Journal(folder, "", stages.source.info, name="practice", n_states=n_states)
        try:
            listeners = [publisher.send] if publisher else []
            broadcast = BroadcastSink(listeners, pixel_um=pixel_um, image_every_s=1e-3)
            loop = Pipeline(
                stages.another_chain(), [JournalSink(journal), broadcast], workers=workers
            )
            loop.run(_frames(stages))
        finally:
            journal.close()
            if publisher is not None:
                publisher.close()


def _frames(stages: Stages) -> Iterator[Frame]:
    info = stages.source.info
    interval_s = info.interval_s or 0.01
    first = made_up(stages)
    for index in range(N_FRAMES):
        adu = first if 2 * index < N_FRAMES else first[::-1]
        yield Frame(index, index * interval_s, adu, info.exposure_s)


def made_up(stages: Stages) -> NDArray[np.uint16]:
    """Return a frame of molecules at random places, as the camera would count them."""
    height, width = stages.source.info.shape
    rng = np.random.default_rng(0)
    sigma_px = stages.config.optics.sigma_um / stages.config.optics.pixel_um
    reach = int(5 * sigma_px) + 1
    rate_e = np.full((height + 2 * reach, width + 2 * reach), BACKGROUND)
    for _ in range(min(MOLECULES, 1 + height * width // ROOM_PX**2)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        row, column = int(y), int(x)
        side = 2 * reach
        rate_e[row : row + side, column : column + side] += spot_image(
            x - column + reach, y - row + reach, PHOTONS, sigma_px, (side, side)
        )
    return stages.camera.sample(rate_e[reach:-reach, reach:-reach], rng)
