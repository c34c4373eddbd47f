"""Work behind the stream takes no more than its share, until somebody waits for it."""

from __future__ import annotations

import threading
import time

from livespt.turns import Pauses


def work(pause, cpu_s):
    """Work for so long with pauses; return the time that it took."""
    began_s, until_s = time.perf_counter(), time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        pause()
    return time.perf_counter() - began_s


def in_a_thread(pause, cpu_s):
    took_s: list[float] = []
    thread = threading.Thread(target=lambda: took_s.append(work(pause, cpu_s)))
    thread.start()
    return thread, took_s


def test_work_takes_no_more_than_its_share():
    thread, took_s = in_a_thread(Pauses(0.2), 0.1)
    thread.join()
    assert took_s[0] > 0.8 * 0.1 / 0.2  # the last of its work may have had no pause yet


def test_nothing_pauses_once_the_work_is_wanted():
    pause = Pauses(0.001)  # .1 s of work would take 100 s
    thread, took_s = in_a_thread(pause, 0.1)
    time.sleep(0.02)
    pause.end()
    thread.join(20)
    assert took_s
