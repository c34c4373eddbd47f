"""The window shows what a real publisher says, at a bounded cost, whatever happens to the run."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from messages import INTERVAL_S, PIXEL_UM, SHAPE, Scene

from livespt.dashboard import palette, words
from livespt.dashboard.app import DashboardError, main
from livespt.dashboard.beside import open_window
from livespt.wire import Publisher
from livespt.wire.schema import StopCommand, Table

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


def test_with_no_run_the_window_waits_and_says_for_what(window, publisher, qtbot):
    qtbot.wait(150)
    assert publisher.publish_address in window.notice.text()
    assert window.header.pill.text() == "waiting"
    assert not window.header.stop.isEnabled()
    assert window.cards.cards == []
    assert not window.final.isVisible()


@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
def test_each_state_has_its_numbers_and_its_curves(window, show, n_states):
    scene = Scene(n_states)
    estimates = [scene.estimate() for _ in range(30)]
    show(scene.hello(), *estimates)
    model = estimates[-1].model
    assert len(window.cards.cards) == n_states
    for k, card in enumerate(window.cards.cards):
        assert card.D.text() == words.headline(model.D_um2_s[k])
        assert card.share.text() == words.percent(model.occupancy[k])
        t_s, log_D = window.plots.bands[k][0].value
        assert t_s[-1] == pytest.approx(30 * INTERVAL_S)
        assert 10 ** log_D[-1] == pytest.approx(model.D_um2_s[k])


def test_the_image_lies_on_um_axes_with_pixel_centres_at_integers(window, show):
    scene = Scene()
    scene.move()
    show(scene.hello(), scene.image())
    item = window.image.image
    height, width = SHAPE
    first = item.mapToParent(0.5, 0.5)  # the middle of the first pixel: x, then y
    last = item.mapToParent(width - 0.5, height - 0.5)
    assert (first.x(), first.y()) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert (last.x(), last.y()) == pytest.approx(((width - 1) * PIXEL_UM, (height - 1) * PIXEL_UM))


def test_a_binned_image_covers_the_same_field(window, show):
    scene = Scene()
    scene.move()
    image = scene.image()
    height, width = SHAPE
    adu = image.adu.array().reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    binned = msgspec.structs.replace(image, binning=2, adu=Table.of(adu.astype(np.uint16)))
    show(scene.hello(), binned)
    corner = window.image.image.mapToParent(width / 2, height / 2)
    assert corner.x() == pytest.approx((width - 0.5) * PIXEL_UM)
    assert corner.y() == pytest.approx((height - 0.5) * PIXEL_UM)
    first = window.image.image.mapToParent(0.0, 0.0)
    assert (first.x(), first.y()) == pytest.approx((-0.5 * PIXEL_UM, -0.5 * PIXEL_UM))


def test_circles_sit_on_the_bright_pixels_of_their_own_frame(window, show):
    scene = Scene(2, n_tracks=6)
    show(scene.hello(), *(scene.estimate() for _ in range(5)))
    image = scene.image()
    show(image)
    at_the_image = scene.xy.copy()
    show(*(scene.estimate() for _ in range(5)))  # answers run ahead of the images
    drawn = np.vstack([np.column_stack(c.getData()) for c in window.image.circles])
    order, truth_order = np.lexsort(drawn.T), np.lexsort(at_the_image.T)
    np.testing.assert_allclose(drawn[order], at_the_image[truth_order], atol=1e-9)
    adu = image.adu.array()
    for x_um, y_um in drawn:
        row, column = round(y_um / PIXEL_UM), round(x_um / PIXEL_UM)
        near = adu[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert near.max() > adu.mean() + 20  # a spot of 300 photons; the background's s.d. is 5


def test_tails_are_drawn_in_the_colour_of_the_state(window, show):
    scene = Scene(2, n_tracks=10)
    show(scene.hello())
    for _ in range(12):
        show(scene.estimate())
    for k, curves in enumerate(window.image.tails):
        n_points = sum(len(curve.getData()[0]) for curve in curves)
        assert (n_points > 0) == bool((scene.state == k).any())


def test_the_strip_counts_every_kind_of_drop(window, show, qtbot):
    scene = Scene()
    show(scene.hello(), scene.estimate(), scene.event("overflow", "the buffer overflowed", 40))
    show(scene.status(frames_missing=3, frames_shed=17, wire_dropped=2, ring_used=250))
    shown = {name: figure.number.text() for name, figure in window.strip.drops.items()}
    assert shown == {"missing": "3", "overflow": "1", "shed": "17", "wire": "2"}
    assert window.strip.figures["latency p99"].number.text() == "6.3 ms"
    assert window.strip.figures["ring"].number.text() == "98 %"
    assert "the buffer overflowed" in window.events.item(0).text()


def test_a_mark_goes_by_its_name_in_the_colour_of_its_urgency(window, show):
    scene = Scene()
    show(scene.hello(), scene.event("mark", "spots 16 % wider", name="defocused"))
    show(scene.event("mark", "to 29 %", name="bleached"), scene.event("note", "x", name="n_states"))
    items = [window.events.item(i) for i in range(3)]
    assert [item.text().split()[1] for item in items] == ["defocused", "bleached", "note"]
    colours = [item.foreground().color().name().upper() for item in items]
    assert colours == [palette.BAD, palette.WARN, palette.CALM]


def test_the_header_shows_the_light_and_a_fault_in_red(window, show):
    scene = Scene()
    show(scene.hello(), scene.estimate())
    assert window.header.light.text() == ""
    show(scene.light())
    assert "0.66 x" in window.header.light.text()
    assert palette.BAD not in window.header.light.styleSheet()
    show(scene.light(state="fault", faults=["stale: no good data for 0.4 s"]))
    assert "FAULT stale" in window.header.light.text()
    assert palette.BAD in window.header.light.styleSheet()


def test_compiling_and_the_final_pass_show_their_progress(window, show):
    scene = Scene()
    show(scene.hello(), scene.status("compiling", progress=0.25, note="infer.step"))
    assert window.progress.isVisible()
    assert window.progress.value() == 250
    assert "infer.step" in window.progress.format()
    show(scene.status("running"))
    assert not window.progress.isVisible()
    show(scene.status("finishing", progress=0.5))
    assert "final pass" in window.progress.format()


def test_the_final_answer_gets_its_panel(window, show):
    scene = Scene(3)
    final = scene.final()
    show(scene.hello(), scene.estimate(), scene.status("done"), final)
    assert window.final.isVisible()
    assert "900 tracks" in window.final.title.text()
    cell = window.final.rows.itemAtPosition(1, 1).widget()
    assert cell.text() == words.estimate(final.model.D_um2_s[0], final.model.D_95[0])
    assert not window.header.stop.isEnabled()


def test_stop_needs_two_clicks(window, show, publisher, qtbot):
    scene = Scene()
    show(scene.hello(), scene.estimate(), scene.status())
    window.header.stop.click()
    assert window.header.stop.text() == "Click again to stop"
    assert window.feed.reply == ""
    window.header.stop.click()
    commands: list = []

    def stopped() -> bool:
        commands.extend(publisher.poll_commands())
        return bool(commands) and "stopping" in window.feed.reply

    qtbot.waitUntil(stopped, timeout=10_000)
    assert isinstance(commands[0], StopCommand)


def test_a_publisher_that_falls_silent_is_seen(window, show, monkeypatch):
    scene = Scene()
    show(scene.hello(), scene.status())
    assert window.header.pill.text() == "running"
    window.header.show_state(window.state, silent_s=7.0)
    assert window.header.pill.text() == "silent for 7 s"
    show(scene.status("done"))
    window.header.show_state(window.state, silent_s=7.0)
    assert window.header.pill.text() == "done"


def test_a_restarted_publisher_begins_a_fresh_window(qtbot):
    from livespt.dashboard.feed import Feed
    from livespt.dashboard.window import DashboardWindow

    first, second = Scene(2, run="first"), Scene(3, run="second")
    with Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", run="first") as publisher:
        addresses = publisher.publish_address, publisher.command_address
        feed = Feed(*addresses)
        feed.__enter__()
        window = DashboardWindow(feed)
        qtbot.addWidget(window)
        publisher.send(first.hello())
        for _ in range(10):
            publisher.send(first.estimate())
        publisher.send(first.final())
        qtbot.waitUntil(lambda: window.state.final is not None, timeout=10_000)
    qtbot.wait(200)
    with Publisher(*addresses, run="second") as publisher:
        publisher.send(second.hello())
        publisher.send(second.estimate())
        qtbot.waitUntil(
            lambda: window.state.run == "second" and bool(window.state.estimate), timeout=15_000
        )
        window.draw()
        assert len(window.cards.cards) == 3
        assert window.header.run.text() == "second"
        assert len(window.state.answers) == 1
        assert window.state.final is None
    window.close()
    feed.close()


def test_ten_thousand_estimates_leave_memory_flat(window, show, publisher, qtbot):
    scene = Scene(2, n_tracks=20)
    sizes = []
    show(scene.hello())
    for chunk in range(25):
        for _ in range(399):
            publisher.send(scene.estimate())
        show(scene.estimate())
        if chunk in (9, 24):
            show(scene.image())
            gc.collect()
            sizes.append((len(gc.get_objects()), resident_bytes()))
    assert window.state.estimate.frame == 10_000
    assert window.feed.lost == 0
    assert len(window.state.answers) <= 513
    (objects_before, bytes_before), (objects_after, bytes_after) = sizes
    # 6,000 messages came between: one object kept of each would be 6,000 more
    assert objects_after - objects_before < 600
    # and their bodies alone 12 MB
    assert bytes_after - bytes_before < 6e6


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0  # no such figure on this system: the count of objects has to do
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_picture_can_be_taken(window, show, tmp_path):
    scene = Scene()
    show(scene.hello(), *(scene.estimate() for _ in range(5)), scene.image())
    path = window.grab_png(tmp_path / "window.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_main_takes_its_picture_and_leaves(publisher, qapp, tmp_path):
    scene = Scene()
    publisher.send(scene.hello())
    publisher.send(scene.estimate())
    path = tmp_path / "main.png"
    code = main(publisher.publish_address, publisher.command_address, screenshot=path, after_s=0.5)
    assert code == 0
    assert path.exists()


def test_a_malformed_address_is_one_line_and_a_code(capsys, qapp):
    assert main("nowhere", "tcp://127.0.0.1:9") == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1


def test_without_a_screen_it_says_so_instead_of_aborting():
    unset = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    env = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "livespt.dashboard"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if sys.platform.startswith("linux"):
        assert done.returncode == 2
        assert "no screen" in done.stderr
        assert "Traceback" not in done.stderr


def test_ctrl_c_closes_the_window(publisher, qapp):
    from PySide6.QtCore import QTimer

    before = signal.getsignal(signal.SIGINT)
    QTimer.singleShot(300, lambda: signal.raise_signal(signal.SIGINT))
    assert main(publisher.publish_address, publisher.command_address) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_beside_a_run_the_window_listens_to_it(publisher):
    heard = publisher._pub.get_monitor_socket(zmq.EVENT_ACCEPTED)
    window = open_window(publisher)
    try:
        assert heard.poll(60_000)
        assert window.poll() is None
    finally:
        window.terminate()
        window.wait(30)
        publisher._pub.disable_monitor()
        heard.close()


def test_beside_a_run_that_publishes_nothing_no_window_opens():
    with pytest.raises(DashboardError, match=r"wire\.enabled"):
        open_window(None)


def test_importing_the_app_brings_no_qt():
    code = (
        "import sys, livespt.dashboard.app;assert not {'PySide6', 'pyqtgraph'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
