"The page that `xray-explain view` really serves: closed without its token, on loopback alone, and no way to files or code."

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import psutil
import pytest
from test_view import BIN, free_port, running
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from xray_explain.view.worklist import Arrival

SECRET = "QZ31337"


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    "What the view writes into the terminal that it was started from"
    return tmp_path_factory.mktemp("terminal") / "stderr"


@pytest.fixture(scope="module")
def served(tmp_path_factory, heard, other_kernel):
    "Process, port and token of the view, started in a folder of files that nobody may read through it"
    folder = tmp_path_factory.mktemp("films")
    cv2.imwrite(str(folder / "film.png"), np.zeros((9, 9), np.uint8))
    for name in ("table.csv", "view.ipynb", "key.txt", "drawing.svg"):
        (folder / name).write_text(SECRET)
    command = [
        BIN / "xray-explain",
        "view",
        "--no-browser",
        "--data",
        "phantoms",
        "--port",
        str(free_port()),
    ]
    env = {**os.environ, "JUPYTER_PATH": str(other_kernel)}
    with (
        heard.open("w") as errors,
        running(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors) as server,
    ):
        url = urlsplit(
            next(
                found[0]
                for line in iter(server.stdout.readline, "")
                if (found := re.search(r"http://127\S+", line))
            )
        )
        yield server, url.port, parse_qs(url.query)["token"][0]


def ask(port, path, method="GET", body=None, **headers):
    "Status, headers and content of an answer; the path goes out as it is, dots and all"
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request(method, path, body, headers)
    answer = link.getresponse()
    found = answer.status, answer.headers, answer.read()
    link.close()
    return found


def kernels(server):
    return [
        p.pid
        for p in psutil.Process(server.pid).children(recursive=True)
        if "ipykernel" in " ".join(p.cmdline())
    ]


@pytest.fixture(scope="module")
def kernel(served):
    "The id of the kernel behind an opened page"
    _, port, token = served
    status, _, page = ask(port, "/", Authorization=f"token {token}")
    assert status == 200
    return re.search(rb'"kernelId": ?"([0-9a-f-]{36})"', page)[1].decode()


CLOSED = [
    "/",
    "/view.ipynb",
    "/api/kernels",
    "/api/kernels/{kernel}",
    "/voila/api/shutdown/{kernel}",
    "/api/contents",
    "/api/sessions",
    "/api/terminals",
    "/files/film.png",
    "/tree",
    "/lab",
    "/edit/view.ipynb",
    "/notebooks/view.ipynb",
    "/api/me",
    "/?token=wrong",
    "/?token=",
]
FILES = [
    "/voila/files/film.png",
    "/voila/files/drawing.svg",
    "/voila/files/table.csv",
    "/voila/files/view.ipynb",
    "/voila/files/../films0/key.txt",
    "/files/key.txt",
    "/files/film.png",
    "/api/contents/key.txt",
    "/api/contents/view.ipynb?content=1",
    "/nbconvert/html/view.ipynb",
    "/static/../key.txt",
    "/voila/static/../../../../../../../../../../etc/passwd",
    "/voila/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/voila/templates/../../../../../../etc/passwd",
    "/voila/templates/xray_explain/static/../../../../../../../../../../etc/passwd",
    "/voila/templates/%2e%2e/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/voila/labextensions/../../../../../../../../etc/passwd",
    "/voila/api/themes/../../../../../../../../etc/passwd",
    "/voila/files/%2fetc%2fpasswd",
    "/voila/files//etc/passwd",
]
# Voila's templates fail at a path that leaves them by an assertion, which is answered with 500
ASSERTED = [path for path in FILES if path.startswith("/voila/templates/")]


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_answers_without_the_token(served, kernel, path):
    server, port, _ = served
    before = kernels(server)
    for method in ("GET", "POST", "DELETE"):
        status, headers, content = ask(
            port, path.format(kernel=kernel), method, b"" if method == "POST" else None
        )
        assert status in (302, 403, 404, 405) and (
            status != 302 or headers["Location"].startswith("/login")
        ), (method, status, headers["Location"])
        assert b"kernelId" not in content and kernel.encode() not in content
    assert kernels(server) == before


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("known", [True, False], ids=["with token", "without"])
def test_no_file_is_readable(served, path, known):
    _, port, token = served
    header = {"Authorization": f"token {token}"} if known else {}
    status, headers, content = ask(port, path, **header)
    for _ in range(3):
        if status != 302 or headers["Location"].startswith("/login"):
            break
        status, headers, content = ask(port, headers["Location"], **header)
    if not known and not path.startswith("/voila/"):  # asked for the token first
        assert status == 302 and headers["Location"].startswith("/login")
    else:
        assert status in ({403, 404} | ({500} if path in ASSERTED else set())), status
    assert SECRET.encode() not in content and b"root:" not in content
    assert not content.startswith(b"\x89PNG")


def test_the_kernel_is_of_the_interpreter_that_serves(served, kernel, heard):
    "Whatever kernel a JUPYTER_PATH calls python3; and its sockets, which have keys, are no news"
    (started,) = kernels(served[0])
    assert "ipykernel_launcher" in psutil.Process(started).cmdline()
    assert psutil.Process(started).cmdline()[0] == sys.executable
    assert "encryption" not in heard.read_text()


def test_what_the_page_is_made_of_is_served(served):
    "By the same handlers: what they refuse is not refused because they are broken"
    _, port, token = served
    for path in ("/voila/static/voila.js", "/voila/templates/xray_explain/static/voila.js"):
        status, _, content = ask(port, path, Authorization=f"token {token}")
        assert status == 200 and len(content) > 1000, path


def test_no_notebook_is_edited_and_no_kernel_started(served, kernel):
    server, port, token = served
    header, before = {"Authorization": f"token {token}"}, kernels(server)
    assert len(before) == 1
    for method, path, body in [
        ("POST", "/api/kernels", {"name": "python3"}),
        ("POST", "/api/sessions", {"path": "x.ipynb", "kernel": {"name": "python3"}}),
        ("PUT", "/api/contents/view.ipynb", {"type": "file", "format": "text", "content": "x"}),
        ("POST", "/api/contents", {}),
        ("POST", "/api/terminals", {}),
        ("PUT", "/voila/files/film.png", {}),
        ("POST", "/", {}),
    ]:
        status = ask(port, path, method, json.dumps(body), **header)[0]
        assert status in (403, 404, 405), (method, path, status)
    assert kernels(server) == before


async def run_code(port, kernel, token, code):
    "Try what a notebook does: ask the kernel to run something; gives the types of the messages that come back"
    header = {"Authorization": f"token {token}"} if token else {}
    link = await websocket_connect(
        HTTPRequest(f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels", headers=header)
    )
    head = lambda kind: {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
        "date": "",
    }
    send = lambda kind, content: link.write_message(
        json.dumps(
            {
                "header": head(kind),
                "parent_header": {},
                "metadata": {},
                "content": content,
                "channel": "shell",
                "buffers": [],
            }
        )
    )
    await send(
        "execute_request",
        {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
    )
    await send("kernel_info_request", {})
    kinds = []
    while "kernel_info_reply" not in kinds:
        message = await asyncio.wait_for(link.read_message(), 60)
        if isinstance(message, str):
            kinds.append(json.loads(message)["msg_type"])
    link.close()
    return kinds


def test_the_page_runs_no_code_of_its_visitor(served, kernel, tmp_path):
    _, port, token = served
    kinds = asyncio.run(run_code(port, kernel, token, f"open({str(tmp_path / 'ran')!r}, 'w')"))
    assert "execute_reply" not in kinds and not (tmp_path / "ran").exists()
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(run_code(port, kernel, "", "1"))


def test_it_listens_on_loopback_alone(served):
    server, port, _ = served
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    places = {
        c.laddr.ip
        for p in family
        for c in p.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert places == {"127.0.0.1"}
    outside = {
        a.address
        for of in psutil.net_if_addrs().values()
        for a in of
        if a.family == socket.AF_INET and not a.address.startswith("127.")
    }
    for address in outside:
        with socket.socket() as s:
            s.settimeout(5)
            assert s.connect_ex((address, port)) != 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_token_stands_in_no_list_of_processes(served):
    server, _, token = served
    for p in [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]:
        assert token not in Path(f"/proc/{p.pid}/cmdline").read_text(errors="replace")


def test_files_come_one_at_a_time_and_no_larger_than_announced():
    from xray_explain.view.widget import InferenceView

    view = InferenceView(data=[])
    view.tell = lambda *_, **__: None
    for n in range(1000):
        view.hear({"kind": "begin", "name": f"{n}.png", "size": 10**8}, [])
    view.hear({"kind": "piece", "offset": 0}, [bytes(10**6)])
    # what was announced takes no memory
    assert view.coming.name == "999.png" and len(view.coming.content) == 10**6
    view.hear({"kind": "begin", "name": "next.png", "size": 5}, [])
    # what there was of the one before is gone
    assert (view.coming.name, len(view.coming.content)) == (
        "next.png",
        0,
    )
    for offset, piece in [(0, bytes(6)), (3, b"abc"), (-1, b"abc")]:
        view.hear({"kind": "piece", "offset": offset}, [piece])
    assert len(view.coming.content) == 0
    for size in (129 * 10**6, 10**15, float("inf"), "large", None):
        view.safely(view.hear, {"kind": "begin", "name": "x.png", "size": size}, [])
        assert view.error and "\n" not in view.error and view.coming is None
    assert not Arrival("x.png", 5).take(0, bytes(6))
