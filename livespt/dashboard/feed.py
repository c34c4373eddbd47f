"""Messages from the wire to the window: received on a thread, handed over in bounded portions.

The thread owns the subscriber; a window that is busy, hidden or frozen costs no memory beyond the
inbox, and what does not fit is counted. Of images only the newest is kept: they are for looking.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Self

from livespt.types import LivesptError
from livespt.wire.schema import AnyMessage, ImageMessage
from livespt.wire.subscribe import Subscriber

INBOX_MESSAGES = 1000
_POLL_S = 0.1
_PAUSE_AFTER_ERROR_S = 1.0


class Feed:
    """Receive a run's messages in the background.

    Parameters
    ----------
    publish, command : str
        The publisher's addresses; it need not be there yet, and may come and go.

    Raises
    ------
    WireError
        An address is malformed.

    Attributes
    ----------
    error : str
        What is wrong with the wire at present, "" if nothing.
    reply : str
        What became of the last stop command, "" if none was sent.
    """

    def __init__(self, publish: str, command: str) -> None:
        self.publish = publish
        self.error = ""
        self.reply = ""
        self._subscriber = Subscriber(publish, command)
        self._inbox: deque[AnyMessage] = deque()
        self._image: ImageMessage | None = None
        self._n_shed = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="livespt-feed", daemon=True)

    def __enter__(self) -> Self:
        """Start to receive."""
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Stop receiving and leave the wire."""
        self.close()

    @property
    def lost(self) -> int:
        """Messages that were published and never reached `take` (images not counted)."""
        return self._subscriber.lost + self._n_shed

    @property
    def silent_s(self) -> float:
        """Seconds since the publisher was last heard."""
        return self._subscriber.silent_s

    def take(self, most: int = 500) -> list[AnyMessage]:
        """Return what has come since the last call, at most `most` messages and one image."""
        messages: list[AnyMessage] = []
        while self._inbox and len(messages) < most:
            messages.append(self._inbox.popleft())
        image, self._image = self._image, None
        if image is not None:
            messages.append(image)
        return messages

    def stop_run(self, reason: str = "stopped from the dashboard") -> None:
        """Ask the run to end; the answer comes to `reply` without anybody waiting for it."""
        self.reply = "asking the run to stop ..."
        threading.Thread(target=self._send_stop, args=(reason,), daemon=True).start()

    def close(self) -> None:
        """Stop receiving; may be called twice."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._subscriber.close()

    def _receive(self) -> None:
        while not self._closing.is_set():
            try:
                message = self._subscriber.recv(_POLL_S)
            except LivesptError as error:
                self.error = str(error)
                self._closing.wait(_PAUSE_AFTER_ERROR_S)
                continue
            if message is not None:
                self.error = ""
                self._keep(message)

    def _keep(self, message: AnyMessage) -> None:
        if isinstance(message, ImageMessage):
            self._image = message
            return
        if len(self._inbox) >= INBOX_MESSAGES:
            self._inbox.popleft()
            self._n_shed += 1
        self._inbox.append(message)

    def _send_stop(self, reason: str) -> None:
        try:
            answer = self._subscriber.stop_run(reason)
        except LivesptError as error:
            self.reply = f"not stopped: {error}"
            return
        self.reply = "the run is stopping" if answer.ok else f"not stopped: {answer.message}"
