"""The terminal view says what the messages say, with and without a terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import msgspec
import pytest
from messages import D_TRUE, OCCUPANCY, Scene
from rich.console import Console

from livespt.dashboard.terminal import TerminalView, layout, result_table

pytestmark = pytest.mark.alone


def plain_console(width: int = 120) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False)


def drawn(view: TerminalView, width: int = 120) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(layout(view.state, width))
    return console.export_text()


def running_view(n_states: int = 2, n_frames: int = 60) -> tuple[TerminalView, Scene]:
    view, scene = TerminalView(plain_console()), Scene(n_states)
    view.update(scene.hello())
    for _ in range(n_frames):
        view.update(scene.estimate())
    view.update(scene.status())
    return view, scene


def test_of_a_flood_of_estimates_some_are_drawn_and_the_last_is_kept():
    """1000 in a few milliseconds: 50 a second are filed; whatever comes next brings the last."""
    view, scene = TerminalView(plain_console()), Scene(2)
    view.update(scene.hello())
    flood = [scene.estimate() for _ in range(1000)]
    for message in flood:
        view.update(message)
    assert len(view.state.answers) < 100
    view.update(scene.status())
    assert view.state.estimate == flood[-1]


def test_an_empty_view_says_that_it_waits():
    text = drawn(TerminalView(plain_console()))
    assert "no run yet" in text
    assert "waiting" in text


@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [80, 120])
def test_each_state_has_its_row_with_value_and_interval(n_states, width):
    view, _ = running_view(n_states)
    text = drawn(view, width)
    model = view.state.model
    assert text.count("●") == n_states + 1  # the header's dot is one more
    for k in range(n_states):
        low, high = model.D_95[k]
        assert low < model.D_um2_s[k] < high
        assert f"{100 * model.occupancy[k]:.0f} %" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_compiling_and_the_final_pass_show_a_bar():
    view, scene = TerminalView(plain_console()), Scene()
    view.update(scene.status("compiling", progress=0.4, note="infer.step"))
    text = drawn(view)
    assert "compiling" in text
    assert "40 %" in text
    assert "infer.step" in text
    view.update(scene.status("finishing", progress=0.75))
    assert "final pass" in drawn(view)


def test_every_kind_of_dropped_frame_is_counted():
    view, scene = running_view()
    view.update(scene.status(frames_missing=3, frames_shed=17, wire_dropped=2))
    view.update(scene.event("overflow", "the camera's buffer overflowed", 40))
    view.state.lost = 5
    text = drawn(view)
    for part in ("missing 3", "overflow 1", "shed 17", "wire 7"):
        assert part in text
    assert "the camera's buffer overflowed" in text


def test_a_mark_goes_by_its_name():
    view, scene = running_view()
    view.update(scene.event("mark", "to 29 %: 31 -> 9 spots", name="bleached"))
    assert "bleached  to 29 %: 31 -> 9 spots" in drawn(view)


def test_the_light_shows_its_mode_power_target_and_dose_and_a_fault():
    view, scene = running_view()
    view.update(scene.light())
    text = drawn(view)
    for part in ("auto armed", "0.66 x", "precision 8.1 for 6.5 nm", "dose left 75 %"):
        assert part in text
    view.update(scene.light(state="fault", faults=["manual: reads 2, was set to 1"]))
    assert "FAULT manual: reads 2" in drawn(view)


def test_without_a_terminal_it_prints_lines_and_no_control_codes():
    console = plain_console()
    with TerminalView(console, plain_every_s=0.0) as view:
        scene = Scene()
        view.update(scene.hello())
        view.update(scene.status("compiling", progress=0.5))
        view.update(scene.estimate())
        view.update(scene.event("missing", "3 frames lost", 3))
        view.update(scene.event("mark", "to 29 %", name="bleached"))
        view.update(scene.final())
        view.update(scene.status("done"))
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert "compiling | 50 %" in text
    assert "missing: 3 frames lost" in text
    assert "bleached: to 29 %" in text
    assert "final: D um2/s" in text
    assert text.splitlines()[-1].startswith("0:00 done")


def test_plain_lines_keep_their_pace():
    console = plain_console()
    with TerminalView(console, plain_every_s=3600.0) as view:
        scene = Scene()
        for _ in range(500):
            view.update(scene.estimate())
    assert len(console.file.getvalue().splitlines()) == 2  # the first and the last


def test_on_a_terminal_it_draws_live_and_gives_the_terminal_back():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with TerminalView(console) as view:
        scene = Scene()
        view.update(scene.hello())
        view.update(scene.estimate())
    text = console.file.getvalue()
    assert "slow" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor shows again


def test_the_result_table_marks_intervals_that_miss_the_truth():
    scene = Scene(2)
    final = scene.final()
    truth = {"D_um2_s": [final.model.D_um2_s[0], 55.0], "occupancy": OCCUPANCY[2]}
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(result_table(None, final, truth))
    lines = {
        line.split("│")[1].strip(): line
        for line in console.export_text().splitlines()
        if "│" in line
    }
    assert "✓" in lines["● D slow"]
    assert "✗" in lines["● D fast"]
    assert "55.000" in lines["● D fast"]


def test_the_result_table_takes_models_and_dicts_alike():
    model = Scene(3).final().model
    fields = msgspec.to_builtins(model)
    tables = []
    for answer in (model, fields):
        console = Console(record=True, width=140, file=io.StringIO())
        console.print(
            result_table(answer, answer, {"D_um2_s": D_TRUE[3], "occupancy": OCCUPANCY[3]})
        )
        tables.append(console.export_text())
    assert tables[0] == tables[1]


def test_the_terminal_view_needs_no_qt():
    code = (
        "import sys, livespt.dashboard.terminal;"
        "assert not {'PySide6', 'pyqtgraph'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
