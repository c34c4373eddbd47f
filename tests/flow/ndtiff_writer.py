"""Write an NDTiff data set with ndstorage as fast as asked, in a process of its own.

python ndtiff_writer.py FOLDER '{"n": 300, "shape": [64, 64], "pause_s": 0.002}'

Every pixel of image i is i, and its metadata tell when it was handed over. `per_file` images fill a
file: ndstorage's own limit of 4 GiB is lowered, which it does not offer as an option.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import numpy as np
from ndstorage import NDTiffDataset, ndtiff_file

PADDING = 5_000_000  # ndstorage keeps so much free


def main(folder, n=300, shape=(64, 64), pause_s=0.002, per_file=0, delay_s=0.0, tags=True):
    """Write `n` images, `pause_s` apart; print how long it took."""
    time.sleep(delay_s)
    if per_file:
        ndtiff_file.MAX_FILE_SIZE = PADDING + per_file * (shape[0] * shape[1] * 2 + 400)
    data = NDTiffDataset(folder, name="run", writable=True)
    data.initialize({"PixelSize_um": 0.1})
    image = np.empty(shape, np.uint16)
    began_s = time.perf_counter()
    for i in range(n):
        wait_s = began_s + i * pause_s - time.perf_counter()
        if pause_s and wait_s > 0:
            time.sleep(wait_s)
        image[:] = i
        known = {"ImageNumber": i, "ElapsedTime-ms": i * max(pause_s, 1e-3) * 1e3}
        known |= {"Axes": {"time": i}} if tags else {}
        data.put_image({"time": i}, image, known | {"handed_over_s": time.monotonic()})
    took_s = time.perf_counter() - began_s
    data.finish()
    with contextlib.suppress(AttributeError):
        data.close()
    print(json.dumps({"took_s": took_s}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], **json.loads(sys.argv[2]))
