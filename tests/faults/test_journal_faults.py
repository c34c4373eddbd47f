"""The run folder in trouble: kills, flipped bits, torn ends, full disks."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))  # journal_scene.py

from journal_scene import INFO, a_frame, same
from livespt.journal import Journal, JournalError, read_run, recover, write_final
from livespt.journal import appender as journal_appender
from livespt.journal import write as journal_write
from livespt.journal.segment import END, scan_file

pytestmark = pytest.mark.alone

NURSERY = Path(__file__).with_name("journal_nursery.py")
posix = pytest.mark.skipif(os.name == "nt", reason="forks its writers")


def frames_of(n, seed=1, n_spots=4):
    rng = np.random.default_rng(seed)
    return [a_frame(rng, i, n_spots) for i in range(n)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- kills ---------------------------------------------------------------------------------------


def kill(tmp_path, n, seed):
    done = subprocess.run(
        [sys.executable, str(NURSERY), str(tmp_path), str(n), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    promises = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(promises) == n
    return promises


def check_promise(tmp_path, promise):
    """Nothing committed is lost, and of the rest at most the last 50 ms; return ms lost."""
    (folder,) = tmp_path.glob(f"*-{promise['name']}")
    assert read_run(folder).status == "running"
    report = recover(folder)
    assert report.changed
    run = read_run(folder)
    assert run.problems() == []
    replayed = [spots.frame for spots, _ in run.iter_spots()]
    assert replayed == list(range(len(replayed)))
    assert len(replayed) >= promise["committed"]
    for stream in ("models", "frames"):
        assert run.rows(stream)["frame"].tolist()[: len(replayed)] == replayed
    lost_s = promise["began_s"][len(replayed) :]
    lost_ms = 1e3 * (lost_s[-1] - lost_s[0]) if lost_s else 0.0
    assert lost_ms <= 50
    assert sum(report.torn_bytes for report in report.streams.values()) == sum(
        path.stat().st_size for path in folder.glob("*.torn")
    )
    before = contents(folder)
    assert not recover(folder).changed
    assert contents(folder) == before
    return lost_ms


@posix
def test_a_kill_loses_nothing_committed_and_at_most_50_ms(tmp_path):
    for promise in kill(tmp_path, 20, seed=1):
        check_promise(tmp_path, promise)


@posix
@pytest.mark.long
def test_200_kills_lose_nothing_committed_and_at_most_50_ms(tmp_path):
    lost_ms = [check_promise(tmp_path, promise) for promise in kill(tmp_path, 200, seed=2)]
    sys.stdout.write(f"\nlost: median {np.median(lost_ms):.1f}, max {np.max(lost_ms):.1f} ms\n")


def test_a_run_that_is_being_written_is_not_recovered(tmp_path):
    with Journal(tmp_path, "", INFO) as journal:
        journal.append(*frames_of(1)[0])
        with pytest.raises(JournalError, match=f"still being written by process {os.getpid()}"):
            recover(journal.folder)
    assert not recover(journal.folder).changed


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A finished run of a few batches in each stream."""
    journal = Journal(tmp_path_factory.mktemp("runs"), "a = 1\n", INFO)
    for frame in frames_of(6):
        journal.append(*frame)
        journal.commit()
    journal.counters(t_s=0.0, n=1.0)
    journal.close({})
    return journal.folder


def damaged(small_run, change):
    """Return a copy of `small_run` in which `change` was made to one segment's bytes."""
    folder = small_run.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(small_run, folder)
    return folder, change(folder)


def is_prefix(rows, of):
    assert len(rows) <= len(of)
    return all(rows[n].tolist() == of[n][: len(rows)].tolist() for n in of.dtype.names)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_is_seen_and_nothing_wrong_is_read(small_run, data):
    paths = sorted(small_run.glob("*.arrows"))
    path = data.draw(st.sampled_from(paths), label="file")
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1), label="byte")
    raw[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")

    def flip(folder):
        (folder / path.name).write_bytes(raw)

    folder, _ = damaged(small_run, flip)
    run = read_run(folder)
    stream = path.name.partition("-")[0]
    assert any(path.name in line for line in run.problems())
    assert is_prefix(run.rows(stream), read_run(small_run).rows(stream))


def test_a_tear_at_every_byte_of_the_last_batch_costs_that_batch_alone(small_run, tmp_path):
    whole = (small_run / "spots-0000.arrows").read_bytes()
    found = scan_file(small_run / "spots-0000.arrows")
    last = found.batches[-1]
    path = tmp_path / "torn.arrows"
    path.write_bytes(whole[: last.start + last.length])
    assert scan_file(path).batches == found.batches
    for length in reversed(range(last.start, last.start + last.length)):
        os.truncate(path, length)
        torn = scan_file(path)
        assert torn.batches == found.batches[:-1], length
        assert torn.torn_bytes == length - last.start


def test_a_tear_anywhere_is_recovered_and_its_bytes_are_kept(small_run):
    whole = (small_run / "links-0000.arrows").read_bytes()
    for length in [0, 1, 7, 300, *range(len(whole) // 2, len(whole), 97), len(whole) - 1]:

        def tear(folder, length=length):
            (folder / "links-0000.arrows").write_bytes(whole[:length])

        folder, _ = damaged(small_run, tear)
        report = recover(folder)
        assert report.changed
        aside = b"".join(
            (folder / name).read_bytes() for name in report.streams["links"].torn_files
        )
        kept = folder / "links-0000.arrows"
        good = kept.read_bytes().removesuffix(END) if kept.exists() else b""
        assert good + aside == whole[:length]
        run = read_run(folder)
        assert run.problems() == []
        assert report.streams["links"].rows_kept == len(run.links)
        for (spots, links), frame in zip(run.iter_spots(), frames_of(6), strict=False):
            assert same(spots, frame[0])
            assert same(links, frame[1])


def test_the_report_says_how_many_rows_are_lost(small_run):
    def flip_a_value(folder):
        path = folder / "spots-0000.arrows"
        raw = bytearray(path.read_bytes())
        batch = scan_file(path).batches[2]
        raw[batch.start + batch.length - 9] ^= 1
        path.write_bytes(raw)

    folder, _ = damaged(small_run, flip_a_value)
    report = recover(folder).streams["spots"]
    assert (report.rows_kept, report.rows_lost) == (8, 16)
    assert read_run(folder).status == "recovered"
    assert len(list(read_run(folder).iter_spots())) == 2


def test_a_batch_cut_out_of_the_middle_is_seen(small_run):
    def cut_out(folder):
        path = folder / "spots-0000.arrows"
        raw = path.read_bytes()
        batch = scan_file(path).batches[2]
        path.write_bytes(raw[: batch.start] + raw[batch.start + batch.length :])

    folder, _ = damaged(small_run, cut_out)
    assert any(
        "spots-0000.arrows: unreadable after" in line for line in read_run(folder).problems()
    )
    assert len(list(read_run(folder).iter_spots())) == 2


def test_spots_and_links_stay_beside_each_other_when_one_of_them_lost_a_batch(tmp_path):
    journal = Journal(tmp_path, "", INFO, rotate_mb=0.002)
    frames = frames_of(12)
    for frame in frames:
        journal.append(*frame)
        journal.commit()
    journal.close({})
    first = journal.folder / "spots-0000.arrows"
    whole, last = first.read_bytes(), scan_file(first).batches[-1]
    first.write_bytes(whole[: last.start + 5])
    recover(journal.folder)
    run = read_run(journal.folder)
    assert len(run.spots) < len(run.links)
    spots, links = run.linked()
    assert len(spots) == len(links) == len(run.spots)
    assert spots["frame"].tolist() == links["frame"].tolist()
    truth = {int(frame[0].frame): frame for frame in frames}
    for number in np.unique(spots["frame"]):
        here = spots["frame"] == number
        assert spots["x_um"][here].tolist() == truth[number][0].table["x_um"].tolist()
        assert links["track_id"][here].tolist() == truth[number][1].track_id.tolist()


@settings(max_examples=40, deadline=None)
@given(junk=st.binary(max_size=400))
def test_junk_for_a_segment_is_set_aside_not_read(small_run, junk):
    def spoil(folder):
        (folder / "events-0000.arrows").write_bytes(junk)

    folder, _ = damaged(small_run, spoil)
    assert read_run(folder).events == []
    assert recover(folder).streams["events"].torn_bytes == len(junk)
    assert read_run(folder).problems() == []


def test_recovery_that_was_itself_cut_off_can_be_run_again(small_run, monkeypatch):
    def tear(folder):
        for path in folder.glob("*.arrows"):
            path.write_bytes(path.read_bytes()[:-20])

    folder, _ = damaged(small_run, tear)
    from livespt.journal import recovery

    real, calls = recovery._mend, []

    def dies_at_third(path, scan):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, scan)

    monkeypatch.setattr(recovery, "_mend", dies_at_third)
    with pytest.raises(JournalError, match="cannot be recovered: No space left on device"):
        recover(folder)
    monkeypatch.undo()
    assert recover(folder).changed
    assert read_run(folder).problems() == []


# --- full disks ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where this machine lets us mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill(where):
    filler = where / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    return filler


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_disk_that_fills_up_loses_no_row_once_there_is_room_again(small_disk):
    frames = frames_of(200)
    journal = Journal(small_disk, "", INFO)
    for frame in frames[:50]:
        journal.append(*frame)
    journal.commit()
    filler = fill(small_disk)
    for frame in frames[50:150]:
        journal.append(*frame)
        time.sleep(0.002)
    wait_for(lambda: journal.trouble)
    assert "No space left" in journal.trouble
    with pytest.raises(JournalError, match=f"{journal.folder}: cannot be written: No space left"):
        journal.commit()
    run = read_run(journal.folder)
    assert [s.frame for s, _ in run.iter_spots()][:50] == [*range(50)]
    for scans in run.scan().values():
        for _, scan in scans:
            assert scan.torn_bytes == 0  # cut back to whole messages
    filler.unlink()
    for frame in frames[150:]:
        journal.append(*frame)
    journal.commit()
    assert journal.trouble == ""
    journal.close({})
    run = read_run(journal.folder)
    assert run.problems() == []
    for (spots, links), frame in zip(run.iter_spots(), frames, strict=True):
        assert same(spots, frame[0])
        assert same(links, frame[1])


def test_a_disk_still_full_at_the_end_leaves_a_folder_to_recover(small_disk):
    frames = frames_of(100)
    journal = Journal(small_disk, "", INFO)
    for frame in frames[:50]:
        journal.append(*frame)
    journal.commit()
    filler = fill(small_disk)
    for frame in frames[50:]:
        journal.append(*frame)
    with pytest.raises(JournalError, match="No space left"):
        journal.close({})
    filler.unlink()
    assert read_run(journal.folder).status == "running"
    assert recover(journal.folder).was == "running"
    run = read_run(journal.folder)
    assert run.problems() == []
    assert len(list(run.iter_spots())) >= 50


def test_a_disk_full_from_the_start_leaves_nothing_behind(small_disk):
    fill(small_disk)
    with pytest.raises(JournalError, match=r"journal\.folder: .*No space left on device"):
        Journal(small_disk, "x" * 5000, INFO)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_final_pass_onto_a_full_disk_leaves_no_half_file(small_disk):
    fill(small_disk)
    table = np.zeros(1000, np.dtype([("x", "f8")]))
    table["x"] = np.random.default_rng(1).random(1000)
    with pytest.raises(JournalError, match="cannot be written"):
        write_final(small_disk, table, {"n": 1})
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("part", [0, 1, 100])
def test_a_write_that_stops_part_way_is_undone_and_tried_again(tmp_path, monkeypatch, part):
    """Every third write fails after `part` bytes; no folder ever holds a torn message."""
    real, calls = os.write, [0]

    def flaky(handle, data):
        calls[0] += 1
        if calls[0] % 3 == 0:
            if part:
                real(handle, memoryview(data)[:part])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(journal_write, "RETRY_S", 0.0)
    frames = frames_of(40)
    journal = Journal(tmp_path, "", INFO, rotate_mb=0.005)
    monkeypatch.setattr(journal_appender.os, "write", flaky)
    for frame in frames:
        journal.append(*frame)
        time.sleep(0.005)
    wait_for(lambda: journal._oldest_s == float("inf") and not journal.trouble)
    monkeypatch.undo()
    assert calls[0] > 10
    journal.close({})
    run = read_run(journal.folder)
    assert run.problems() == []
    assert all(
        same(spots, frame[0]) and same(links, frame[1])
        for (spots, links), frame in zip(run.iter_spots(), frames, strict=True)
    )


def test_a_disk_that_never_recovers_stops_the_run_before_memory_is_full(tmp_path, monkeypatch):
    def refuse(handle, data):
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path, "", INFO)
    monkeypatch.setattr(journal_appender.os, "write", refuse)
    monkeypatch.setattr(journal_write, "BACKLOG_BYTES", 100_000)
    with pytest.raises(JournalError, match=r"Input/output error; .* MB wait"):
        for frame in frames_of(2000):
            journal.append(*frame)
            time.sleep(0.001)
    monkeypatch.undo()
    journal.close()


def test_a_failing_sync_is_told(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path, "", INFO)
    journal.append(*frames_of(1)[0])
    monkeypatch.setattr(journal_write, "sync_data", fail)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.commit()
    monkeypatch.undo()
    journal.close()


@pytest.mark.parametrize("where", ["file", "proc"])
def test_a_folder_that_cannot_be_made_is_named_in_one_line(tmp_path, where):
    if where == "proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    (tmp_path / "file").write_text("")
    parent = tmp_path / "file" / "runs" if where == "file" else Path("/proc/runs")
    with pytest.raises(JournalError, match=r"journal\.folder: ") as caught:
        Journal(parent, "", INFO)
    assert str(parent) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- speed ---------------------------------------------------------------------------------------


@pytest.mark.bench
def test_rows_per_second(tmp_path):
    frames = frames_of(200, n_spots=200)
    journal = Journal(tmp_path, "", INFO)
    n = 4000
    started, append_s = time.perf_counter(), []
    for i in range(n):
        before = time.perf_counter()
        spots, links, estimates = frames[i % 200]
        journal.append(
            spots._replace(frame=i), links._replace(frame=i), estimates._replace(frame=i)
        )
        append_s.append(time.perf_counter() - before)
    journal.close({})
    seconds = time.perf_counter() - started
    rows = sum(journal.n_rows.values())
    p50, p99 = 1e6 * np.percentile(append_s, (50, 99))
    report = [
        f"\n{rows / seconds / 1e6:.2f} M rows/s, {journal.n_bytes / seconds / 1e6:.0f} MB/s",
        f"{n / seconds:.0f} frames/s of 200 spots",
        f"append p50 {p50:.0f} us, p99 {p99:.0f} us",
    ]
    started = time.perf_counter()
    assert sum(1 for _ in read_run(journal.folder).iter_spots()) == n
    report.append(f"replayed at {n / (time.perf_counter() - started):.0f} frames/s\n")
    sys.stdout.write("; ".join(report))
    assert n / seconds > 200  # the live target, with the machine to spare
