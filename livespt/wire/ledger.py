"""What a subscriber has had of a run, so that nothing is delivered twice and holes are counted.

Every message has `nth`, a running number within its topic. Once the subscription has taken hold
(`joined`), each topic must go on from the number last seen; before that, a jump is merely the past
of someone who came late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from livespt.wire.schema import Message, SnapshotMessage


class Ledger:
    """The newest number of each topic of one run.

    Attributes
    ----------
    run : str or None
        The run that the numbers belong to; None before anything was heard.
    joined : bool
        Whether a jump is a loss.
    lost : Counter
        Messages lost, by topic without its prefix; kept over runs.
    """

    def __init__(self) -> None:
        self.run: str | None = None
        self.joined = False
        self.lost: Counter[str] = Counter()
        self._newest: dict[str, int] = {}

    def begin(self, run: str) -> None:
        """Turn to another run."""
        self.run = run
        self.joined = False
        self._newest.clear()

    def join(self, topics: Iterable[str]) -> None:
        """Hold each of `topics` to its numbers from here on; what was never sent begins at 1."""
        self.joined = True
        for topic in topics:
            self._newest.setdefault(topic, 0)

    def accept(self, message: Message) -> bool:
        """Note `message`; return False if it was had before."""
        topic = message.topic.partition(".")[2]
        newest = self._newest.get(topic)
        if newest is not None and message.nth <= newest:
            return False
        if newest is not None and self.joined:
            self.lost[topic] += message.nth - newest - 1
        self._newest[topic] = message.nth
        return True


def parts_of(snapshot: SnapshotMessage) -> list[Message]:
    """Return the messages in `snapshot` in the order in which they were sent."""
    s = snapshot
    newest = (s.hello, s.estimate, s.status, s.image, s.final, s.control)
    parts: list[Message] = [part for part in newest if part is not None]
    return sorted([*parts, *snapshot.events], key=lambda part: part.seq)
