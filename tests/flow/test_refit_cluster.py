"""Refits over a cluster: the answer of one process, whatever the workers; nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from livespt.cli import main
from livespt.refit import RefitError, make_tracks, refit
from livespt.refit.cluster import Tls, connect, deal, spread_over
from livespt.refit.history import errors_of, tracks_of
from livespt.refit.many import Work, refit_many

pytest.importorskip("distributed")
WORK = Work("history", {"states": 1}, {"frame_ms": 20.0, "exposure_ms": 0.0})


def rows(n_tracks, n_frames, seed):
    """Diffusion at 1 um2/s, 20 ms, errors of 30 nm."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n_tracks, n_frames, 2)) * np.sqrt(2 * 0.02)
    at = np.cumsum(steps, axis=1) + rng.normal(size=steps.shape) * 0.03
    track, frame = np.repeat(np.arange(n_tracks), n_frames), np.tile(np.arange(n_frames), n_tracks)
    return track, frame, at.reshape(-1, 2)


def tracks(n_tracks=60, n_frames=20, seed=1):
    track, frame, at = rows(n_tracks, n_frames, seed)
    sd = np.full(at.shape, 0.03)
    return make_tracks(track, frame, at, sd, interval_s=0.02, exposure_s=0.0)


def table(path, seed):
    track, frame, at = rows(30, 15, seed)
    columns = {"track": track, "frame": frame, "x_um": at[:, 0], "y_um": at[:, 1]}
    columns |= {"sd_x_um": np.full(len(at), 0.03), "sd_y_um": np.full(len(at), 0.03)}
    csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def client():
    with connect(workers=1) as client:
        yield client


def test_tracks_are_dealt_whole_and_in_order():
    data = tracks()
    laid = tracks_of(data, errors_of(data))
    dealt = deal(laid, 95)  # of 20 rows each: four or five tracks a part
    assert {int(part.first[-1]) for part in dealt[:-1]} <= {80, 100}
    assert sum(part.first.size - 1 for part in dealt) == 60
    np.testing.assert_array_equal(np.concatenate([part.spot for part in dealt]), laid.spot)
    assert all(np.array_equal(np.diff(part.first), np.full(part.first.size - 1, 20))
               for part in dealt)  # fmt: skip


def test_a_cluster_gives_the_answer_of_this_process(client):
    data = tracks()
    here = refit(data, "history", states=1)
    there = refit(data, "history", states=1, spread=spread_over(client, rows=300))
    # all tracks take part in the trial, so only summation order differs
    assert there.loglik == pytest.approx(here.loglik, rel=1e-12)
    for a, b in zip(here.parameters, there.parameters, strict=True):
        assert b.value == pytest.approx(a.value, rel=1e-6)
        assert b.sd == pytest.approx(a.sd, rel=1e-4)
    for name in ("track", "frame", "x_um", "var_x_um2"):
        np.testing.assert_allclose(there.positions[name], here.positions[name], rtol=1e-6)


def test_many_sources_are_fitted_once_and_a_bad_one_stops_none(client, tmp_path):
    sources = [table(tmp_path / f"{k}.csv", seed=k) for k in range(3)]
    (tmp_path / "bad.csv").write_text("track,frame\n1,2\n")
    told = []
    done = refit_many(
        [*sources, tmp_path / "bad.csv"], WORK, tmp_path / "out", client,
        lambda n, total, name: told.append((n, total)),
    )  # fmt: skip
    assert (len(done.answers), done.resumed, told[-1]) == (3, [], (4, 4))
    assert list(done.failed) == [str(tmp_path / "bad.csv")]
    assert "bad.csv" in done.failed[str(tmp_path / "bad.csv")]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{k}.{kind}" for k in range(3) for kind in ("json", "parquet")
    }
    table(sources[1], seed=17)  # changed meanwhile
    again = refit_many(sources, WORK, tmp_path / "out", client)
    assert again.resumed == [str(sources[0]), str(sources[2])]
    assert again.answers[str(sources[0])] == done.answers[str(sources[0])]
    assert again.answers[str(sources[1])] != done.answers[str(sources[1])]
    other = refit_many(sources[:1], WORK._replace(settings={"states": 2}), tmp_path / "out", client)
    assert other.resumed == []


def test_the_command_takes_several_sources(tmp_path, capsys):
    sources = [table(tmp_path / f"{k}.csv", seed=k) for k in range(2)]
    asked = ["refit", *map(str, sources), str(tmp_path / "none.csv"), "--frame-ms", "20",
             "--states", "1", "--json"]  # fmt: skip
    assert main(asked) == 2
    assert "several sources: give --out" in capsys.readouterr().err
    assert main([*asked, "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["answers"]) == 2
    assert "none.csv: no such file" in next(iter(answer["failed"].values()))
    alone = main(["refit", str(sources[0]), "--frame-ms", "20", "--states", "1", "--json"])
    plain = json.loads(capsys.readouterr().out)
    assert alone == 0
    assert plain["parameters"] == answer["answers"][str(sources[0])]["parameters"]


def test_two_sources_of_one_name_are_refused(client, tmp_path):
    with pytest.raises(RefitError, match=r"a\.csv: its answer would be named as that of"):
        refit_many([tmp_path / "a.csv", tmp_path / "b" / "a.csv"], WORK, tmp_path, client)


@pytest.mark.parametrize(
    "scheduler, tls, said",
    [
        ("tls://127.0.0.1:1", None, "tls:// and the three TLS files go together"),
        ("", Tls(Path("a"), Path("b"), Path("c")), "go together"),
        (
            "tls://127.0.0.1:1",
            Tls(Path("none.pem"), Path("b"), Path("c")),
            "none.pem: no such file",
        ),
        ("nonsense", None, "nonsense: no scheduler answers there"),
    ],
)
def test_a_wrong_scheduler_is_named(scheduler, tls, said):
    with pytest.raises(RefitError, match=said), connect(scheduler, tls=tls):
        pass


@pytest.mark.long
def test_the_answer_does_not_depend_on_the_number_of_workers():
    data, found = tracks(400, 30), []
    for workers in (1, 2):
        with connect(workers=workers) as client:
            found.append(refit(data, "history", states=2, spread=spread_over(client, rows=1000)))
    assert found[0].parameters == found[1].parameters
    assert found[0].loglik == found[1].loglik
    assert np.array_equal(found[0].positions, found[1].positions)


@pytest.mark.long
def test_a_lost_worker_costs_time_not_the_answer():
    data = tracks(400, 30)
    with connect(workers=2) as client:
        spread = spread_over(client, rows=1000)
        whole = refit(data, "history", states=2, spread=spread)

        def lossy(laid):
            held = spread(laid)
            inner, calls = held.parts, []

            def parts(theta, interval_s):
                calls.append(None)
                if len(calls) == 3:
                    client.run(os._exit, 1, workers=list(client.nthreads())[:1], on_error="ignore")
                return inner(theta, interval_s)

            held.parts = parts
            return held

        again = refit(data, "history", states=2, spread=lossy)
    assert again.parameters == whole.parameters


def in_space(space, *command):
    return subprocess.Popen(
        ["ip", "netns", "exec", space, sys.executable, *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable between them: two hosts as far as a network goes."""
    names = ("livespt-a", "livespt-b")
    if not (shutil.which("ip") and shutil.which("openssl")) or os.geteuid() != 0:
        pytest.skip("needs ip, openssl and the right to make network namespaces")
    plan = [
        *(f"netns add {name}" for name in names),
        "link add lspt-a netns livespt-a type veth peer name lspt-b netns livespt-b",
        *(f"-n livespt-{x} addr add 10.77.0.{k}/24 dev lspt-{x}" for k, x in ((1, "a"), (2, "b"))),
        *(f"-n livespt-{x} link set {dev} up" for x in "ab" for dev in (f"lspt-{x}", "lo")),
    ]
    try:
        for line in plan:
            subprocess.run(["ip", *line.split()], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def certificate(folder):
    """Make one self-signed certificate that scheduler, workers and client share."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=livespt", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.long
def test_two_hosts_over_tls_give_the_answer_of_one(two_hosts, tmp_path):
    """Scheduler and worker on one host, a worker on the other, the client on the first."""
    cert, key = certificate(tmp_path)
    tls = ["--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key)]
    script = tmp_path / "client.py"
    script.write_text(
        "import json, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_refit_cluster import tracks\n"
        "from livespt.refit import refit\n"
        "from livespt.refit.cluster import Tls, connect, spread_over\n"
        f"files = Tls(Path({str(cert)!r}), Path({str(cert)!r}), Path({str(key)!r}))\n"
        "with connect('tls://10.77.0.1:8786', tls=files) as client:\n"
        "    client.wait_for_workers(2, timeout=60)\n"
        "    hosts = {w.rsplit(':', 1)[0] for w in client.nthreads()}\n"
        "    found = refit(tracks(), 'history', states=1, spread=spread_over(client, rows=300))\n"
        f"    Path({str(tmp_path / 'said')!r}).write_text("
        "json.dumps([sorted(hosts), found.parameters[0].value]))\n"
    )
    a, b = two_hosts
    running = [in_space(a, "-m", "distributed.cli.dask_scheduler", "--host", "tls://10.77.0.1",
                        "--port", "8786", "--no-dashboard", *tls)]  # fmt: skip
    time.sleep(3)
    for space, host in ((a, "10.77.0.1"), (b, "10.77.0.2")):
        running.append(
            in_space(space, "-m", "distributed.cli.dask_worker", "tls://10.77.0.1:8786", "--host",
                     f"tls://{host}", "--nthreads", "1", "--no-dashboard", *tls)
        )  # fmt: skip
    try:
        assert in_space(a, str(script)).wait(timeout=240) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
    hosts, value = json.loads((tmp_path / "said").read_text())
    assert hosts == ["tls://10.77.0.1", "tls://10.77.0.2"]
    here = refit(tracks(), "history", states=1)
    assert value == pytest.approx(here.parameters[0].value, rel=1e-6)
