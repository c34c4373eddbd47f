"""``python -m livespt.dashboard``: the window, without the rest of the command line."""

from __future__ import annotations

import argparse
import sys

from livespt.dashboard.app import COMMAND, PUBLISH, main


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="livespt.dashboard", description="Watch a livespt run.")
    parser.add_argument("--publish", default=PUBLISH, help="where the run publishes")
    parser.add_argument("--command", default=COMMAND, help="where the run takes commands")
    parser.add_argument("--screenshot", help="write a picture there and leave")
    parser.add_argument("--after", type=float, default=5.0, help="seconds before the picture")
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    sys.exit(
        main(options.publish, options.command, screenshot=options.screenshot, after_s=options.after)
    )
