"""Raises writers and kills them: run by test_journal_faults.py in a process of its own.

    python journal_nursery.py FOLDER N SEED

Forks N writers one after the other. Each journals a frame every millisecond or so, and after each
`append` (and `commit`) notes in shared memory what it was promised. Each is killed with SIGKILL
at a random moment; what it had been promised is printed as one line of JSON.
"""

import json
import mmap
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from journal_scene import INFO, a_frame
from livespt.journal import Journal

MAX_FRAMES = 100_000


class Notes:
    """What a writer was promised, in memory that outlives it."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 8 * (2 + MAX_FRAMES))
        self.counts = np.frombuffer(self._memory, np.int64, 2)  # frames appended, committed
        self.began_s = np.frombuffer(self._memory, np.float64, MAX_FRAMES, offset=16)


def write(parent, notes, seed):
    """Journal frames for ever, with a commit now and then."""
    rng = np.random.default_rng(seed)
    frames = [a_frame(rng, i, int(rng.integers(0, 30))) for i in range(64)]
    journal = Journal(parent, "", INFO, name=f"kill-{seed}", rotate_mb=0.1)
    for i in range(MAX_FRAMES):
        spots, links, estimates = frames[i % 64]
        notes.began_s[i] = now = time.monotonic()
        journal.append(
            spots._replace(frame=i, t_s=now),
            links._replace(frame=i),
            estimates._replace(frame=i, t_s=now),
        )
        notes.counts[0] = i + 1
        if i % 97 == 96:
            journal.commit()
            notes.counts[1] = i + 1
        time.sleep(rng.exponential(0.001))


def kill_one(parent, seed, rng):
    """Raise one writer, kill it, return what it had been promised."""
    notes = Notes()
    writer = os.fork()
    if writer == 0:
        try:
            write(parent, notes, seed)
        finally:
            os._exit(1)
    while notes.counts[0] < 3:
        time.sleep(0.002)
    time.sleep(rng.uniform(0.02, 0.4))
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    assert os.WIFSIGNALED(status), "the writer ended before it was killed"
    appended, committed = notes.counts.tolist()
    began_s = notes.began_s[:appended].tolist()
    return {"name": f"kill-{seed}", "committed": committed, "began_s": began_s}


def main():
    """Kill N writers."""
    parent, n, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(seed)
    for i in range(n):
        sys.stdout.write(json.dumps(kill_one(parent, 1000 * seed + i, rng)) + "\n")


main()
