"""The run folder in peace: what goes in comes out bit for bit, by our reader and by others'."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

sys.path.insert(0, str(Path(__file__).parents[1]))  # journal_scene.py

from journal_scene import INFO, a_frame, same
from livespt.camera import Emccd, Scmos
from livespt.journal import (
    Journal,
    JournalError,
    read_final,
    read_run,
    recover,
    streams,
    to_arrow_table,
    write_final,
)
from livespt.journal import write as journal_write
from livespt.journal.columns import batch_of, rows_of, schema_of
from livespt.types import REVISION_DTYPE, SPOT_DTYPE, Estimates, Event, Links, Spots, track_dtype

pytestmark = pytest.mark.alone


def frames_of(n, seed=1, n_spots=lambda i: i % 7):
    rng = np.random.default_rng(seed)
    return [a_frame(rng, i, n_spots(i)) for i in range(n)]


def write_run(parent, frames, *, close=True, **options):
    journal = Journal(parent, "answer = 42\n", INFO, **options)
    for frame in frames:
        journal.append(*frame, latency_ms=2.5)
    if close:
        journal.close({"frames": len(frames)})
    return journal


def test_events_of_a_run_before_events_had_names_are_read(tmp_path, monkeypatch):
    """Version 3, written as it was: five columns."""
    names = ["kind", "t_s", "frame", "n_frames", "message"]
    old = np.dtype([(name, streams.EVENTS[name]) for name in names])
    event = Event("missing", 0.1, 3, 2, "2 frames missing")
    with monkeypatch.context() as before:
        before.setattr(streams, "EVENTS", old)
        before.setattr("livespt.journal.folder.VERSION", 3)
        before.setattr("livespt.journal.appender.VERSION", 3)
        with Journal(tmp_path, "", INFO) as journal:
            journal.event(event)
    run = read_run(journal.folder)
    assert run.about["version"] == 3
    assert run.events == [event]
    assert run.rows("events").dtype == streams.EVENTS
    assert run.problems() == []


def test_a_run_comes_back_bit_for_bit(tmp_path):
    frames = frames_of(60)
    events = [
        Event("missing", 0.1, 3, 2, "2 frames missing"),
        Event("note", 0.2, -1, 0, "µm ✓"),
        Event("mark", 0.3, 4, 1, "bleached to 30 %", "bleached", 30.0, 9.0),
    ]
    with Journal(tmp_path, "answer = 42\n", INFO) as journal:
        for frame in frames:
            journal.append(*frame, latency_ms=2.5)
        for event in events:
            journal.event(event)
        journal.counters(t_s=1.5, frames_in=60, frames_shed=0)
        journal.close({"D": np.array([0.1, np.inf])})
    run = read_run(journal.folder)
    assert run.problems() == []
    assert run.status == "finished"
    assert run.config == "answer = 42\n"
    assert run.events == events
    assert run.counters.tolist() == [(1.5, "frames_in", 60.0), (1.5, "frames_shed", 0.0)]
    for (spots, links), frame in zip(run.iter_spots(), frames, strict=True):
        assert same(spots, frame[0])
        assert same(links, frame[1])
    for i, frame in enumerate(frames):
        assert same(run.model(i), frame[2].model)
    tables = np.concatenate([frame[2].table for frame in frames])
    for name in tables.dtype.names:
        assert run.estimates[name].tobytes() == tables[name].tobytes(), name
    assert run.frames["n_spots"].tolist() == [len(frame[0].table) for frame in frames]
    assert (run.frames["latency_ms"] == 2.5).all()
    assert json.loads((run.folder / "summary.json").read_text()) == {"D": [0.1, None]}


any_bits = st.integers(0, 2**64 - 1)


@settings(max_examples=50, deadline=None)
@given(bits=hnp.arrays(np.uint64, (4, 12), elements=any_bits))
def test_every_float_keeps_its_bits_through_arrow(bits):
    table = np.zeros(4, SPOT_DTYPE)
    for name, column in zip(SPOT_DTYPE.names, bits.T, strict=False):
        table[name] = column.view(np.float64)
    back = rows_of(batch_of(table, schema_of(table.dtype)))
    assert back.dtype == table.dtype
    assert back.tobytes() == table.tobytes()


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=20), max_size=5), start=st.integers(0, 4))
def test_texts_and_slices_come_back(texts, start):
    table = np.zeros(len(texts), np.dtype([("text", "O"), ("pair", "f8", (2, 3))]))
    table["text"] = texts
    table["pair"] = np.arange(6.0 * len(texts)).reshape(-1, 2, 3)
    back = rows_of(batch_of(table, schema_of(table.dtype)).slice(start))
    kept = [text.encode("utf-8", "replace").decode() for text in texts[start:]]
    assert back["text"].tolist() == kept
    assert back["pair"].tobytes() == table["pair"][start:].tobytes()


def test_any_arrow_reader_reads_a_segment(tmp_path):
    journal = write_run(tmp_path, frames_of(20))
    table = pa.ipc.open_stream((journal.folder / "spots-0000.arrows").read_bytes()).read_all()
    assert table.column_names[:3] == ["frame", "t_s", "x_um"]
    assert table.num_rows == len(read_run(journal.folder).spots)


def test_a_stream_goes_on_in_another_file_beyond_its_size(tmp_path):
    frames = frames_of(300, n_spots=lambda _: 10)
    journal = Journal(tmp_path, "", INFO, rotate_mb=0.02)
    for i, frame in enumerate(frames):
        journal.append(*frame)
        if i % 10 == 9:
            journal.commit()
    journal.close({})
    run = read_run(journal.folder)
    assert len(list(journal.folder.glob("spots-*.arrows"))) > 5
    assert run.problems() == []
    assert sum(1 for _ in run.iter_spots()) == 300
    (journal.folder / "spots-0002.arrows").unlink()
    assert any("missing" in line for line in read_run(journal.folder).problems())


def test_a_missing_last_segment_is_seen(tmp_path):
    journal = write_run(tmp_path, frames_of(20))
    (journal.folder / "links-0000.arrows").unlink()
    problems = read_run(journal.folder).problems()
    assert any("links: 0 of" in line for line in problems)


def test_an_empty_run_is_a_run(tmp_path):
    with Journal(tmp_path, "", INFO) as journal:
        pass
    run = read_run(journal.folder)
    assert run.status == "stopped"
    assert len(run.spots) == len(run.frames) == len(run.models) == 0
    assert run.events == []
    assert list(run.iter_spots()) == []
    assert run.problems() == []


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    journals = [Journal(tmp_path, "", INFO, name="twin") for _ in range(3)]
    assert len({journal.folder for journal in journals}) == 3
    for journal in journals:
        journal.close()


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "", "x" * 500, "µ ?*"])
def test_a_name_stays_inside_its_folder(tmp_path, name):
    with Journal(tmp_path, "", INFO, name=name) as journal:
        assert journal.folder.parent == tmp_path
        assert journal.folder.is_dir()


def test_the_folder_says_which_camera_was_used(tmp_path):
    gain = np.full((4, 4), 2.0)
    hashes = set()
    for bump in (0.0, 1e-12):
        gain[0, 0] = 2.0 + bump
        with Journal(tmp_path, "", INFO, camera=Scmos(gain.copy(), 100.0, 1.5)) as journal:
            about = read_run(journal.folder).about["camera"]
        assert about["model"] == "scmos"
        assert about["offset_adu"] == 100.0
        hashes.add(about["sha256"])
    assert len(hashes) == 2
    with Journal(tmp_path, "", INFO, camera=Emccd(20.0, 2.0, 10.0, 100.0)) as journal:
        assert read_run(journal.folder).about["camera"]["gain_adu_per_e"] == 20.0


def test_what_does_not_belong_together_is_refused(tmp_path):
    (spots, links, estimates), (_, later, _) = frames_of(2, n_spots=lambda _: 3)
    with Journal(tmp_path, "", INFO) as journal:
        with pytest.raises(JournalError, match="of frames 0, 1, 0"):
            journal.append(spots, later, estimates)
        with pytest.raises(JournalError, match="3 spots and 2 links"):
            journal.append(spots, links._replace(track_id=links.track_id[:2]), estimates)
        with pytest.raises(JournalError, match="columns"):
            journal.append(spots._replace(table=estimates.table), links, estimates)


def test_a_number_of_states_that_changes_is_reported(tmp_path):
    rng = np.random.default_rng(1)
    journal = Journal(tmp_path, "", INFO)
    journal.append(*a_frame(rng, 0, 3, n_states=2))
    journal.commit()
    with pytest.raises(JournalError, match="estimates: the columns changed"):
        for i in range(1, 400):
            journal.append(*a_frame(rng, i, 3, n_states=3))
            time.sleep(0.005)
    with pytest.raises(JournalError, match="estimates: the columns changed"):
        journal.close()  # says so again, whether or not rows waited


def test_a_number_of_states_that_may_change_has_columns_for_all(tmp_path):
    rng = np.random.default_rng(1)
    frames = [a_frame(rng, i, 3, n_states=k) for i, k in enumerate((2, 3, 2, 1, 4))]
    with Journal(tmp_path, "", INFO, n_states=4) as journal:
        for frame in frames:
            journal.append(*frame)
    run = read_run(journal.folder)
    for i, (_, _, estimates) in enumerate(frames):
        assert same(run.model(i), estimates.model)
        rows = run.estimates[run.estimates["frame"] == i]
        k = len(estimates.model.D_um2_s)
        np.testing.assert_array_equal(rows["p_state"][:, :k], estimates.table["p_state"])
        assert not rows["p_state"][:, k:].any()
        np.testing.assert_array_equal(rows["D_track_95"], estimates.table["D_track_95"])


def test_a_close_tells_of_rows_that_nobody_was_told_are_lost(tmp_path):
    rng = np.random.default_rng(1)
    journal = Journal(tmp_path, "", INFO)
    journal.append(*a_frame(rng, 0, 3, n_states=2))
    journal.commit()
    journal.append(*a_frame(rng, 1, 3, n_states=3))
    time.sleep(0.2)  # the journal's thread meets them first
    with pytest.raises(JournalError, match="estimates: the columns changed"):
        journal.close({"frames": 2})
    about = json.loads((journal.folder / "run.json").read_text())
    assert about["status"] == "running"


def test_what_was_appended_may_be_changed_afterwards(tmp_path):
    (frame,) = frames_of(1, n_spots=lambda _: 4)
    before = frame[0].table.copy()
    D_before = frame[2].model.D_um2_s.copy()
    journal = Journal(tmp_path, "", INFO)
    journal.append(*frame)
    frame[0].table["x_um"] = -1.0
    frame[2].model.D_um2_s[:] = -1.0
    journal.close()
    run = read_run(journal.folder)
    assert run.spots["x_um"].tolist() == before["x_um"].tolist()
    assert run.model().D_um2_s.tolist() == D_before.tolist()


def test_a_closed_journal_takes_no_more_and_may_be_closed_again(tmp_path):
    journal = write_run(tmp_path, frames_of(3))
    journal.close()
    assert read_run(journal.folder).status == "finished"
    with pytest.raises(JournalError, match="closed"):
        journal.append(*frames_of(1)[0])


def test_a_run_can_be_read_while_it_is_written(tmp_path):
    frames = frames_of(10)
    journal = write_run(tmp_path, frames, close=False)
    journal.commit()
    run = read_run(journal.folder)
    assert run.status == "running"
    assert run.problems() == []
    assert sum(1 for _ in run.iter_spots()) == 10
    journal.close()


def test_rows_reach_the_disk_by_age_even_if_the_thread_sleeps(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_write.Journal, "_tick", lambda self: None)
    journal = Journal(tmp_path, "", INFO)
    first, second = frames_of(2)
    journal.append(*first)
    time.sleep(journal_write.MAX_AGE_S + 0.01)
    journal.append(*second)
    assert len(read_run(journal.folder).frames) == 2
    journal.close()


def test_a_slow_disk_sync_holds_nobody_up(tmp_path, monkeypatch):
    syncing, release = threading.Event(), threading.Event()

    def slow(handle):
        syncing.set()
        release.wait(10)
        os.fsync(handle)

    monkeypatch.setattr(journal_write, "sync_data", slow)
    monkeypatch.setattr(journal_write, "SYNC_S", 0.02)
    journal = Journal(tmp_path, "", INFO)
    frames = frames_of(30)
    journal.append(*frames[0])
    assert syncing.wait(10)
    for frame in frames[1:]:
        journal.append(*frame)
        time.sleep(0.005)
    time.sleep(0.1)
    assert len(read_run(journal.folder).frames) == 30  # written, while the sync still hangs
    release.set()
    journal.close()


def test_the_final_pass_is_read_back_and_by_others(tmp_path):
    table = np.zeros(5, np.dtype([("track_id", "i8"), *track_dtype(2).descr[3:]]))
    table["track_id"] = np.arange(5)
    table["p_state"] = np.random.default_rng(1).random((5, 2))
    write_final(tmp_path, table, {"D_um2_s": np.array([0.1, 1.0]), "n": np.int64(5)})
    back, answer = read_final(tmp_path)
    assert back.dtype == table.dtype
    assert back.tobytes() == table.tobytes()
    assert answer == {"D_um2_s": [0.1, 1.0], "n": 5}
    assert parquet.read_table(tmp_path / "tracks.parquet").column("track_id").to_pylist() == [
        *range(5)
    ]
    assert to_arrow_table(table).num_rows == 5


def test_a_run_without_final_pass_says_so(tmp_path):
    with pytest.raises(JournalError, match="no final pass"):
        read_final(tmp_path)


def test_no_run_folder_is_named(tmp_path):
    for act in (read_run, recover):
        with pytest.raises(JournalError, match="not a run folder"):
            act(tmp_path)
        with pytest.raises(JournalError, match="not a run folder"):
            act(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(JournalError, match="not written by livespt"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"format": "livespt-journal", "version": 99}')
    with pytest.raises(JournalError, match="journal version 99, this livespt reads 4"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{torn")
    with pytest.raises(JournalError, match="not valid JSON"):
        recover(tmp_path)


WITHOUT_PANDAS = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pandas":
            print("asked for pandas")
        return None
sys.meta_path.insert(0, Guard())
sys.path.insert(0, {here!r})
import numpy as np
from journal_scene import INFO, a_frame
from livespt.journal import Journal, read_run
from livespt.types import Event
with Journal({folder!r}, "", INFO) as journal:
    journal.append(*a_frame(np.random.default_rng(1), 0))
    journal.event(Event("note", 0.0, 0, 0, "x"))
    journal.counters(t_s=0.0, n=1)
run = read_run(journal.folder)
assert len(run.spots) == 5 and len(run.events) == 1 and len(run.estimates) == 5
"""


def test_neither_writing_nor_reading_asks_for_pandas(tmp_path):
    code = WITHOUT_PANDAS.format(here=str(Path(__file__).parents[1]), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "asked for pandas" not in done.stdout


def test_frames_of_any_arrival_come_back_in_step(tmp_path):
    """Spots of a frame may lie in two batches; frames without spots lie between."""
    rng = np.random.default_rng(2)
    frames = [a_frame(rng, 3 * i, int(n)) for i, n in enumerate(rng.integers(0, 4, 200))]
    journal = Journal(tmp_path, "", INFO)
    for i, frame in enumerate(frames):
        journal.append(*frame)
        if rng.random() < 0.2 or i == 0:
            journal.commit()
    journal.close()
    for (spots, links), frame in zip(read_run(journal.folder).iter_spots(), frames, strict=True):
        assert isinstance(spots, Spots)
        assert isinstance(links, Links)
        assert isinstance(frame[2], Estimates)
        assert same(spots, frame[0])
        assert same(links, frame[1])


def test_a_run_shows_the_tracks_as_they_were_revised_and_replays_them_as_they_were_told(tmp_path):
    rng = np.random.default_rng(4)
    frames = []
    for i in range(4):
        spots, links, estimates = a_frame(rng, i, 3)
        revised = np.zeros(0, REVISION_DTYPE)
        if i == 2:  # the last word on (1, 2) comes in frame 3
            revised = np.array([(0, 1, 70, 0.6), (1, 2, 71, 0.7)], REVISION_DTYPE)
        elif i == 3:
            revised = np.array([(1, 2, 72, 0.8), (2, 0, 70, 0.9), (9, 0, 5, 0.5)], REVISION_DTYPE)
        frames.append((spots, links._replace(revised=revised), estimates))
    with Journal(tmp_path, "", INFO) as journal:
        for frame in frames:
            journal.append(*frame)
    run = read_run(journal.folder)
    assert run.problems() == []
    first = np.concatenate([links.track_id for _, links, _ in frames])
    np.testing.assert_array_equal(run.links["track_id"], first)
    spots, links = run.linked()
    want = first.copy()
    want[[1, 5, 6]] = 70, 72, 70
    np.testing.assert_array_equal(links["track_id"], want)
    np.testing.assert_array_equal(links["p_link"][[1, 5, 6]], [0.6, 0.8, 0.9])
    assert len(run.revised) == 5
    for (_, found), (_, told, _) in zip(run.iter_spots(), frames, strict=True):
        assert same(found, told)
