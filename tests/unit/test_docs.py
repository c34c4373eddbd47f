"""The documentation says what the program does: names, defaults, links and examples."""

from __future__ import annotations

import inspect
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any, get_args

import cyclopts
import msgspec
import numpy as np
import pytest

from livespt import camera_file, cli, config
from livespt.camera import Scmos
from livespt.config import build_camera
from livespt.control import Entry, read_limits
from livespt.journal import final, folder, streams, write
from livespt.results import RunResult
from livespt.sections import CameraConfig, Config, ControlConfig
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.follow import FollowOptions
from livespt.sources.micromanager import MicroManagerOptions
from livespt.sources.replay import ReplayOptions
from livespt.tables import LOCALIZATION_DTYPE, ThunderStorm
from livespt.types import EVENT_KINDS, EVENT_NAMES, FitStatus, Model, track_dtype
from livespt.wire import Publisher, schema
from livespt_sim.core import BufferOptions
from livespt_sim.options import resolve
from livespt_sim.scenes import SCENES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
NAMES = {path: str(path.relative_to(ROOT)) for path in PAGES}

NO_ROWS = np.empty(0, LOCALIZATION_DTYPE)
#: What a default may be called where it has no literal.
NONE, REQUIRED, BELOW = "none", "required", "see below"


def sections(page: Path) -> dict[str, str]:
    """Split a page at its headings: heading -> text below it, up to the next."""
    parts = re.split(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def without_code(page: Path) -> str:
    """Return a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows whose first cell begins with a name in backticks."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(text: str) -> list[str]:
    """Return the names in the first column."""
    return [cells[0].strip("`") for cells in rows(text)]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def indented(page: Path) -> list[str]:
    """Return the lines of indented code blocks."""
    return [line[4:] for line in without_code(page).splitlines() if line.startswith("    ")]


# --- config ----------------------------------------------------------------------------------


#: The options of each source that has them checked here.
KINDS = {
    "follow": FollowOptions,
    "micromanager": MicroManagerOptions,
    "mmcore": CameraOptions,
    "replay": ReplayOptions,
}


def defaults(struct: type) -> dict[str, Any]:
    """Return each key's default as TOML would say it."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        if field.required:
            found[field.encode_name] = REQUIRED
        elif field.default_factory is not msgspec.NODEFAULT:
            plain: Any = msgspec.to_builtins(field.default_factory())
            found[field.encode_name] = plain
        else:
            nested = isinstance(field.default, msgspec.Struct)
            default = NONE if field.default is None else field.default
            found[field.encode_name] = BELOW if nested else default
    return found


def described() -> dict[str, dict[str, Any]]:
    """Return what config.md has to hold: heading -> key -> default."""
    whole = {field.name: field for field in msgspec.structs.fields(Config)}
    parts = {
        name: field.type
        for name, field in whole.items()
        if hasattr(field.type, "__struct_fields__")
    }
    expected = {f"[{name}]": defaults(kind) for name, kind in parts.items()}
    expected["Top level"] = {k: v for k, v in defaults(Config).items() if k not in parts}
    expected["[source.options] of `replay`"] = defaults(ReplayOptions)
    expected["[source.options] of `follow`"] = defaults(FollowOptions)
    both = expected["[source.options] of `micromanager` and `mmcore`"] = defaults(
        MicroManagerOptions
    )
    assert set(defaults(CameraOptions)) < set(both)
    values = msgspec.to_builtins(resolve({}, SCENES))
    scene: dict[str, Any] = {k: NONE if v is None else v for k, v in values.items()}
    expected["[source.options] of `simulated-core`"] = defaults(BufferOptions)
    expected["[source.options.camera] of `simulated`"] = scene["camera"]
    expected["[source.options] of `simulated`"] = scene | {"camera": BELOW}
    return expected


def said(cell: str) -> Any:
    """Read a default as it stands in a table."""
    if cell in (NONE, REQUIRED, BELOW):
        return cell
    return tomllib.loads(f"value = {cell.strip('`')}")["value"]


@pytest.mark.parametrize("heading", described())
def test_config_md_has_every_key_with_its_default_and_no_other(heading):
    found = sections(REFERENCE / "config.md")
    table = {cells[0].strip("`"): said(cells[1]) for cells in rows(found[heading])}
    assert table == described()[heading]


def test_config_md_names_every_key_of_the_sections_within_control():
    text = sections(REFERENCE / "config.md")["[control]"]
    for name in ("actuator", "limits"):
        named = set(re.findall(r"`(\w+)`", text.partition(f"`[control.{name}]`")[2]))
        kind = next(f.type for f in msgspec.structs.fields(ControlConfig) if f.name == name)
        assert set(defaults(kind)) <= named


def test_config_md_describes_no_section_that_does_not_exist():
    headed = {name for name, text in sections(REFERENCE / "config.md").items() if rows(text)}
    assert headed == set(described())


def test_the_scenes_are_those_that_exist():
    text = sections(REFERENCE / "config.md")["[source.options] of `simulated`"].split("| key")[0]
    assert set(re.findall(r"`(\w+)`", text)) - {"scene"} == set(SCENES)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_ready_configs_are_good(path):
    loaded = config.load(path)
    options = loaded.source.options
    if loaded.source.kind in KINDS:
        config.parse(options, "source.options", KINDS[loaded.source.kind])
    else:
        resolve(options, SCENES)


def toml_blocks() -> list[Any]:
    found = [(page, block) for page in PAGES for block in blocks(page, "toml")]
    return [pytest.param(block, id=f"{NAMES[page]}-{n}") for n, (page, block) in enumerate(found)]


@pytest.mark.parametrize("block", toml_blocks())
def test_configs_in_the_docs_are_good(block):
    raw = tomllib.loads(block)
    if "project" in raw:  # a third party's pyproject.toml
        groups = set(raw["project"]["entry-points"])
        assert groups <= {
            "livespt.sources",
            "livespt.experiments",
            "livespt.actuators",
            "livespt.laws",
        }
        return
    if "property" in raw:  # the machine's limits of the excitation
        return
    loaded = config.parse(raw)
    if loaded.source.kind in KINDS:
        config.parse(loaded.source.options, "source.options", KINDS[loaded.source.kind])


def limits_blocks() -> list[Any]:
    found = [block for page in PAGES for block in blocks(page, "toml") if "[property." in block]
    return [pytest.param(block, id=str(n)) for n, block in enumerate(found)]


@pytest.mark.parametrize("block", limits_blocks())
def test_limits_in_the_docs_are_good(tmp_path, block):
    text = (REFERENCE / "control-limits.md").read_text()
    table = re.search(r"^    value,power_mW.*?^$", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    (tmp_path / "laser-488.csv").write_text(table[0])
    (tmp_path / "limits.toml").write_text(block)
    assert list(read_limits(tmp_path / "limits.toml")) == ["Laser.Voltage"]


def test_control_limits_md_has_every_key_with_its_default_and_no_other():
    text = sections(REFERENCE / "control-limits.md")["The keys of a property"]
    assert {cells[0].strip("`"): said(cells[1]) for cells in rows(text)} == defaults(Entry)


# --- commands --------------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """Return each command of the program with its flags."""
    found = {}
    for name in cli.app:
        if name.startswith("-"):
            continue
        bound = cli.app[name].assemble_argument_collection()
        found[name] = {
            flag for argument in bound for flag in argument.names if _is_flag(argument, flag)
        }
    return found


def _is_flag(argument: cyclopts.Argument, flag: str) -> bool:
    keyword_only = argument.field_info.kind is inspect.Parameter.KEYWORD_ONLY
    return flag.startswith("--") and keyword_only


def test_cli_md_has_every_command_and_flag_and_no_other():
    found = {}
    for heading, text in sections(REFERENCE / "cli.md").items():
        if match := re.fullmatch(r"`livespt (\w+)`", heading):
            found[match[1]] = set(names(text))
    assert found == commands()


def test_commands_shown_anywhere_exist():
    known = commands()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if "decisions" in page.parts:
            continue
        for command, rest in re.findall(
            r"livespt (?=[a-z])(\w+)((?: +[^\s`#]+)*)", "\n".join(indented(page))
        ):
            assert command in known, f"{NAMES[page]}: livespt {command}"
            flags = set(re.findall(r"--[a-z0-9-]+", rest))
            assert flags <= known[command], f"{NAMES[page]}: livespt {command}{rest}"
        shown = set(re.findall(r"`livespt (\w+)[^`]*`", text))
        assert shown <= {*known, "COMMAND"}, NAMES[page]


def test_the_json_object_has_the_keys_described():
    text = sections(REFERENCE / "cli.md")["The JSON object of a run"]
    assert names(text) == list(
        RunResult(None, None, {"D": [1.0]}, {}, {}, {}, {}, "", "x").as_json()
    )
    assert set(names(text)) == {"truth", *RunResult._fields}


def test_make_targets_shown_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        for target in re.findall(
            r"(?:^|`)make ([a-z-]+)", "\n".join(indented(page)), flags=re.MULTILINE
        ):
            assert target in targets, f"{NAMES[page]}: make {target}"


# --- events, wire, run folder ----------------------------------------------------------------


def test_events_md_has_every_kind_and_no_other():
    found = sections(REFERENCE / "events.md")
    assert names(found["Events"]) == list(EVENT_KINDS)
    assert names(found["Names"]) == list(EVENT_NAMES)


def test_wire_md_has_every_message_with_its_fields_and_no_other():
    found = sections(REFERENCE / "wire.md")
    base = list(schema.Message.__struct_fields__)
    assert names(found["What every message carries"]) == ["type", *base]
    described_ones = {h.strip("`"): names(text) for h, text in found.items() if "`livespt." in h}
    expected = {
        kind.topic: [f for f in kind.__struct_fields__ if f not in base]
        for kind in get_args(schema.AnyMessage)
    }
    assert described_ones == expected


def test_wire_md_has_the_model_and_the_commands():
    found = sections(REFERENCE / "wire.md")
    assert names(found["The model"]) == list(schema.ModelMessage.__struct_fields__)
    assert list(Model._fields) == list(schema.ModelMessage.__struct_fields__)
    tags = [kind.__struct_config__.tag for kind in get_args(schema.AnyCommand)]
    assert names(found["Commands"]) == tags
    assert f"schema version, {schema.VERSION} " in found["What every message carries"]
    mentioned = set(re.findall(r"`(\w+)`", found["`livespt.estimate`"]))
    assert set(track_dtype(2).names or ()) <= mentioned


def test_run_folder_md_has_every_stream_with_its_columns():
    found = sections(REFERENCE / "run-folder.md")
    expected = {
        "spots": streams.SPOTS,
        "links": streams.LINKS,
        "ended": streams.ENDED,
        "revised": streams.REVISED,
        "estimates": streams.estimates_dtype(2),
        "models": streams.models_dtype(2, 3),
        "frames": streams.FRAMES,
        "events": streams.EVENTS,
        "counters": streams.COUNTERS,
    }
    assert tuple(expected) == streams.NAMES
    table = {c[0].strip("`"): re.findall(r"`(\w+)`", c[2]) for c in rows(found["Streams"])}
    assert table == {name: list(dtype.names or ()) for name, dtype in expected.items()}
    for status in FitStatus:
        assert re.search(rf"\b{status.value} [a-z]", found["Streams"]), status


def test_localization_table_md_has_every_column_and_no_other():
    page = REFERENCE / "localization-table.md"
    assert names(page.read_text()) == list(LOCALIZATION_DTYPE.names or ())
    for status in FitStatus:
        assert re.search(rf"\b{status.value} [a-z]", page.read_text()), status
    assert set(re.findall(r"`([^`]+)`", page.read_text())) > set(
        ThunderStorm(0.1)(NO_ROWS).schema.names
    )


def test_calibration_file_md_has_every_key_and_no_other(tmp_path):
    found = set()
    for model, keys in camera_file.KEYS.items():
        values: Any = dict.fromkeys(keys, np.ones((2, 2)) if model == "scmos" else 1.0)
        bad = np.zeros((2, 2), bool) if model == "scmos" else None
        errors = {key: value for key, value in values.items() if key != "excess"}
        content = camera_file.CameraFile(model, values, errors, bad)
        camera_file.write_camera_file(tmp_path / "c.npz", content)
        with np.load(tmp_path / "c.npz") as archive:
            found |= set(archive.files)
    page = (REFERENCE / "calibration-file.md").read_text()
    assert set(names(page)) == found
    assert f"version {camera_file.VERSION}" in page


def test_run_folder_md_names_the_files():
    files = "\n".join(names(sections(REFERENCE / "run-folder.md")["Files"]))
    for name in (
        folder.RUN_FILE,
        folder.CONFIG_FILE,
        folder.LOCK_FILE,
        final.TRACKS_FILE,
        final.FINAL_FILE,
        write.SUMMARY_FILE,
    ):
        assert name in files


# --- links and code --------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets on a rendered page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        where = (page.parent / path).resolve() if path else page
        assert where.exists(), f"{target} in {NAMES[page]}"
        if fragment:
            assert fragment in {anchor(h) for h in sections(where)}, f"{target} in {NAMES[page]}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_files_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:tests|configs|livespt|simulators)/[\w/.-]*\.(?:py|toml)\b", text):
        assert (ROOT / path).exists(), f"{path} in {NAMES[page]}"


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    for page in DOCS.rglob("*.md"):
        if page.parent != DOCS:
            assert str(page.relative_to(DOCS).as_posix()) in index


def python_blocks() -> list[Any]:
    found = [(page, block) for page in PAGES for block in blocks(page, "python")]
    return [pytest.param(block, id=f"{NAMES[page]}-{n}") for n, (page, block) in enumerate(found)]


@pytest.mark.parametrize("block", python_blocks())
def test_python_in_the_docs_compiles_and_what_it_imports_from_livespt_exists(block):
    compile(block, "docs", "exec")
    for module, imported in re.findall(r"^from (livespt[\w.]*) import (.+)$", block, re.MULTILINE):
        found = __import__(module, fromlist=["_"])
        for name in imported.split(","):
            assert hasattr(found, name.strip()), f"{module} has no {name.strip()}"


def a_model() -> schema.ModelMessage:
    return schema.ModelMessage(
        D_um2_s=[0.1, 1.0],
        D_95=[(0.098, 0.102), (0.9, 1.1)],
        occupancy=[0.4, 0.6],
        occupancy_95=[(0.3, 0.5), (0.5, 0.7)],
        p_switch=[[0.98, 0.02], [0.01, 0.99]],
        p_switch_95=[[(0.97, 0.99), (0.01, 0.03)], [(0.0, 0.02), (0.98, 1.0)]],
        rate_per_s=[[-1.0, 1.0], [0.5, -0.5]],
        error_scale=1.0,
        error_scale_95=(0.9, 1.1),
        occupancy_lag=[[0.4, 0.6]],
        lags=[0],
        interval_s=0.02,
        n_steps=100,
        n_tracks=10,
        status="ok",
    )


def an_estimate(frame: int) -> schema.EstimateMessage:
    return schema.EstimateMessage(
        frame=frame,
        t_s=0.02 * frame,
        model=a_model(),
        tracks=schema.Table.of(np.zeros(2, track_dtype(2))),
        n_spots=2,
        median_sd_um=0.01,
        median_photons=500.0,
        median_bg_photons=3.0,
        sbr=10.0,
        latency_ms=2.0,
    )


A_STATUS: dict[str, Any] = {
    field: 0
    for field in schema.StatusMessage.__struct_fields__
    if field not in ("v", "run", "note")
}
A_HELLO = schema.HelloMessage(
    livespt="0",
    config_toml="",
    source="a test",
    shape=(16, 16),
    interval_s=0.02,
    exposure_s=0.01,
    pixel_um=0.1,
    n_states=2,
)


def free_addresses() -> list[str]:
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{probe.getsockname()[1]}" for probe in (one, two)]


def listeners() -> list[Any]:
    """Return each example that listens, as a test's parameter."""
    pages = (
        ROOT / "README.md",
        DOCS / "how-to" / "listen-from-a-script.md",
        DOCS / "tutorial" / "first-experiment.md",
    )
    return [
        pytest.param(block, id=f"{NAMES[page]}-{n}")
        for page in pages
        for n, block in enumerate(b for b in blocks(page, "python") if "Subscriber" in b)
    ]


@pytest.mark.alone
@pytest.mark.parametrize("block", listeners())
def test_a_listening_script_runs_as_it_stands_to_the_end_of_the_run(block):
    """Only the addresses are others, so that no run on this machine is disturbed."""
    publish, command = free_addresses()
    script = block.replace("Subscriber(", f"Subscriber({publish!r}, {command!r}, ")
    program = [sys.executable, "-u", "-W", "error", "-c", script]
    said: list[str] = []
    with Publisher(publish, command, run="docs") as wire:
        wire.send(A_HELLO)
        listener = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        reader = threading.Thread(target=lambda: said.extend(listener.stdout or ()))
        reader.start()
        stopped = answer_until_heard(wire, listener, said)
        wire.send(schema.StatusMessage(**{**A_STATUS, "state": "done"}))
        try:
            assert listener.wait(timeout=30) == 0, listener.stderr and listener.stderr.read()
        finally:
            listener.kill()
            reader.join()
            for pipe in (listener.stdout, listener.stderr):
                assert pipe is not None
                pipe.close()
    assert stopped == ("stop_run" in block)
    if "print(message.frame, message.model" in block:
        assert all(line.endswith("[0.1, 1.0] [(0.098, 0.102), (0.9, 1.1)]\n") for line in said)


def answer_until_heard(wire: Publisher, listener: subprocess.Popen, said: list[str]) -> bool:
    """Publish estimates until the listener has printed three or said stop; return the latter."""
    deadline = time.monotonic() + 60
    frame = 0
    while listener.poll() is None and len(said) < 3 and time.monotonic() < deadline:
        wire.send(an_estimate(frame))
        frame += 1
        if wire.poll_commands():
            return True
        time.sleep(0.02)
    return bool(wire.poll_commands())


@pytest.mark.alone
def test_the_calibration_script_finds_a_known_camera(tmp_path, monkeypatch, capsys):
    """Mean gain of 256 pixels: s.e. 4 % / 16 = .25 %, four of them allowed; a pixel: 5 s.d."""
    rng = np.random.default_rng(1)
    shape = (16, 16)
    gain = rng.normal(2.2, 0.1, shape)
    camera = Scmos(gain, rng.normal(100, 2, shape), rng.lognormal(0.5, 0.3, shape))
    for name, level in (("dark", 0.0), ("flat-1", 20.0), ("flat-2", 80.0), ("flat-3", 200.0)):
        frames = np.stack([camera.sample(np.full(shape, level), rng) for _ in range(600)])
        np.save(tmp_path / f"{name}.npy", frames)
    (script,) = blocks(DOCS / "how-to" / "calibrate-by-hand.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    assert "counts per electron" in capsys.readouterr().out
    chosen = CameraConfig(model="scmos", calibration=str(tmp_path / "maps.npz"))
    found = build_camera(chosen, shape)
    assert isinstance(found, Scmos)
    assert np.mean(found.gain_adu_per_e / gain) == pytest.approx(1, abs=0.01)
    assert np.abs(found.gain_adu_per_e / gain - 1).max() < 5 * np.sqrt(3 / (600 * 3))
    np.testing.assert_allclose(found.offset_adu, camera.offset_adu, atol=0.6)  # 5 s.e. of a mean
    # the read noise of one pixel is known to 1/sqrt(600) and the gain's error: 6 s.d.
    np.testing.assert_allclose(found.var_e2, camera.var_e2, rtol=0.6, atol=0.1)


FOLDER = """
import mm_test_adapters
folder = mm_test_adapters.device_adapter_path()
"""
SNAKE = (
    FOLDER
    + """
import pycromanager
pycromanager.start_headless(folder, folder + "/MMConfig_demo.cfg", python_backend=True)
beads = pycromanager.Core()
beads.set_exposure(9.0)
beads.set_property("Camera", "Mode", "Fluorescent Beads")
"""
)
PLUS = (
    FOLDER
    + """
import pymmcore_plus
beads = pymmcore_plus.CMMCorePlus.instance()
beads.loadSystemConfiguration(folder + "/MMConfig_demo.cfg")
beads.setExposure(9.0)
beads.setProperty("Camera", "Mode", "Fluorescent Beads")
"""
)
#: What makes the examples short, and what they would print of the frames.
SHORTER = {
    "n_frames=5000": "n_frames=60",
    "num_time_points=5000": "num_time_points=60",
    "num_time_points=100": "num_time_points=60",
    '"loops": 1000': '"loops": 60',
}


def microscope_scripts() -> list[Any]:
    """Return each example at a microscope, but those that need one in another process."""
    page = DOCS / "how-to" / "micro-manager.md"
    found = [block for block in blocks(page, "python") if "port=4827" not in block]
    return [pytest.param(block, id=str(n)) for n, block in enumerate(found)]


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.parametrize("script", microscope_scripts())
def test_a_script_at_the_microscope_analyses_every_image_of_a_real_core(script, tmp_path):
    """Shorter, on any free port; else as it stands."""
    pytest.importorskip("pycromanager")
    assert any(old in script for old in SHORTER)
    for old, new in SHORTER.items():
        script = script.replace(old, new)
    (tmp_path / "camera.toml").write_text(
        "[camera]\nmodel = 'ideal'\n[optics]\npixel_um = 0.1\nsigma_um = 0.095\n"
        "[wire]\npublish = 'tcp://127.0.0.1:*'\ncommand = 'tcp://127.0.0.1:*'\n"
    )
    runs = "live.results().values()" if "live.results" in script else "[live.result()]"
    plus = "pymmcore_plus" in script
    stop = "beads.unloadAllDevices()" if plus else "pycromanager.stop_headless()"
    end = f"print([run.frames['processed'] for run in {runs}])\nimport time; time.sleep(0.2)"
    program = "\n".join([PLUS if plus else SNAKE, script, end, stop])
    run = [sys.executable, "-c", program]
    out = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert ("[60, 60]" if "per=" in script else "[60]") in out.stdout.splitlines()
    assert "Traceback" not in out.stderr
