"A real cluster on this machine: a head and a second node, a worker killed in mid-run, results as without it."

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from test_engine import CLI, fill, model, picture, spoil  # noqa: F401 fixtures too

from xray_explain.infer.folder import Options, run
from xray_explain.read.sources import from_folder

# where everything is to be tested it may not be missing
if os.environ.get("CI") != "true":
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'xray_explain[ray]'")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
# this cluster's own, not the one in the home folder
QUIET = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
SMALL = [
    "--num-cpus",
    "2",
    "--object-store-memory",
    "200000000",
    "--disable-usage-stats",
    "--block",
]
# Ray gives up when an agent takes 15 s to say which port it took, which it does on a busy machine; given ports need not be said
AGENTS = ("metrics-export", "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent")


def free_ports(count):
    "Ports that nobody uses now"
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def node(log, *where):
    "A node of a cluster, once it says that it runs"
    ports = [
        part
        for name, port in zip(AGENTS, free_ports(len(AGENTS)))
        for part in (f"--{name}-port", str(port))
    ]
    process = subprocess.Popen(
        [*RAY, "start", *where, "--node-ip-address", "127.0.0.1", *ports, *SMALL],
        env=QUIET,
        stdout=open(log, "w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end = time.monotonic() + 180
    while "Ray runtime started" not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            _end(process)
            pytest.fail(
                f"this machine could not start a node of a cluster:\n{log.read_text()[-2000:]}"
            )
        time.sleep(0.2)
    return process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    "Address of a head and a second node; both end with the tests"
    (port,), home = free_ports(1), tmp_path_factory.mktemp("ray")
    short = Path("/tmp") / f"ray_{os.getpid()}"  # names of sockets may have about a hundred letters
    nodes = []
    try:
        nodes.append(
            node(
                home / "head.log",
                "--head",
                "--port",
                str(port),
                "--include-dashboard",
                "false",
                "--temp-dir",
                str(short),
            )
        )
        nodes.append(node(home / "second.log", "--address", f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}"
    finally:
        for process in reversed(nodes):
            _end(process)
        shutil.rmtree(short, ignore_errors=True)


def _end(node):
    "End a node and the processes that it started"
    try:
        below = psutil.Process(node.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    node.send_signal(signal.SIGTERM)
    try:
        node.wait(20)
    except subprocess.TimeoutExpired:
        node.kill()
    for p in below:
        try:
            p.kill()
        except psutil.NoSuchProcess:
            pass


def workers_of(address):
    "Processes that hold a network or read, on any node of the cluster"
    port = address.split(":")[1]
    found = []
    for p in psutil.process_iter(["cmdline", "ppid"]):
        try:
            parents = " ".join(" ".join(q.cmdline()) for q in p.parents()[:2])
        except psutil.Error:
            continue
        title = " ".join(p.info["cmdline"] or [])
        if title.startswith("ray::") and (port in parents or "raylet" in parents):
            found.append(p)
    return found


def results(out):
    return [json.loads((out / f"{n}.json").read_text()) for n in ("batch_results", "failures")]


def check_same(ours, theirs):
    "The same pictures, words, shapes and places; numbers within float32"
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for k in a.keys() - {"confidence", "scores", "logits"}:
            assert a[k] == b[k], (k, a, b)
        assert a["scores"] == pytest.approx(b["scores"], abs=1e-5) and a["logits"] == pytest.approx(
            b["logits"], abs=1e-4
        )


def on_two_nodes(model, picture, tmp_path, address, count, kill):
    folder = fill(tmp_path / "in", picture, count)
    spoil(folder, 0.05)
    sources, found = from_folder(folder)
    run(model[0], sources, found, tmp_path / "local", Options(4), progress=False)
    command = [
        "--input-dir",
        folder,
        "--checkpoint",
        model[1],
        "--batch-size",
        4,
        "--output-dir",
        tmp_path / "ray",
        "--engine",
        "ray",
        "--ray-address",
        address,
        "--workers",
        2,
    ]
    process = subprocess.Popen(
        [*CLI, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    )
    killed = []

    def strike():
        log = tmp_path / "ray" / "run" / "records.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            time.sleep(0.05)
        victims = [
            p
            for p in workers_of(address)
            if "MapWorker" in " ".join(p.cmdline()) or "Map(" in " ".join(p.cmdline())
        ]
        for victim in victims[:1]:
            killed.append(" ".join(victim.cmdline()))
            victim.kill()

    thread = threading.Thread(target=strike, daemon=True)
    if kill:
        thread.start()
    said, errors = process.communicate(timeout=900)
    if kill:
        thread.join(10)
    assert process.returncode == 1 and "Traceback" not in errors, errors
    ours, theirs = results(tmp_path / "local"), results(tmp_path / "ray")
    check_same(ours[0], theirs[0])
    assert ours[1] == theirs[1]
    keys = [
        json.loads(line)
        for line in (tmp_path / "ray" / "run" / "records.jsonl").read_text().splitlines()
    ]
    names = [e["image_name"] for b in keys for e in [*b["records"], *b["failures"]]]
    assert len(names) == len(set(names)) == found
    for r in theirs[0]:
        assert (tmp_path / "ray" / r["overlay"]).stat().st_size
    return killed, command


@pytest.mark.slow
def test_two_nodes_one_worker_killed(model, picture, tmp_path, cluster):
    killed, _ = on_two_nodes(model, picture, tmp_path, cluster, 120, kill=True)
    assert killed, "no worker was there to kill"


@pytest.mark.slow
def test_two_nodes_many_pictures_then_resume_locally(model, picture, tmp_path, cluster):
    killed, command = on_two_nodes(model, picture, tmp_path, cluster, 1200, kill=True)
    assert killed
    local = [c for c in map(str, command)]
    local = local[: local.index("--engine")]
    done = subprocess.run(
        [*CLI, *local, "--workers", "0"], capture_output=True, text=True, env=QUIET
    )
    assert done.returncode == 1  # the broken ones are still broken, and nothing else was done again
    log = (tmp_path / "ray" / "run" / "records.jsonl").read_text().splitlines()
    assert sum(len(json.loads(line)["records"]) for line in log) == len(
        results(tmp_path / "ray")[0]
    )


def test_no_cluster_is_one_line(model, picture, tmp_path):
    folder = fill(tmp_path / "in", picture, 3)
    done = subprocess.run(
        [
            *CLI,
            "--input-dir",
            folder,
            "--checkpoint",
            model[1],
            "--output-dir",
            tmp_path / "out",
            "--engine",
            "ray",
            "--ray-address",
            f"127.0.0.1:{free_ports(1)[0]}",
        ],
        capture_output=True,
        text=True,
        env=QUIET,
        timeout=600,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("xray-explain: ")]
    assert done.returncode == 1 and len(told) == 1 and "no Ray cluster at 127.0.0.1" in told[0]
