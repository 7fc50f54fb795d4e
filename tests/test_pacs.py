"Programs that nobody here wrote: Orthanc keeps the objects as they are, its DICOMweb and DCMTK's storescu and storescp talk to ours, a thousand films, a kill, a peer that is away."

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from test_dicom_objects import FILMS, bright, explained, film  # noqa: F401, a fixture
from test_dicomweb import written
from test_engine import model  # noqa: F401, a fixture

from xray_explain.infer.dicom.network import dicomweb
from xray_explain.infer.dicom.network.delivery import connected, sent
from xray_explain.infer.dicom.network.peers import Peer, instance_name

pytestmark = pytest.mark.slow
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
OBJECTS = {
    SecondaryCaptureImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ComprehensiveSRStorage,
    SegmentationStorage,
}
MAIN = [sys.executable, "-c", "import sys; from xray_explain.cli import main; sys.exit(main())"]


def needs(*programs: str):
    "Skipped without them, in CI a failure"
    missing = [p for p in programs if not (shutil.which(p) or Path(p).is_file())]
    if missing:
        reason = (
            f"no {missing[0]}; on Debian and Ubuntu: apt install orthanc orthanc-dicomweb dcmtk"
        )
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds=120, step=0.2):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(step)


class Orthanc:
    "Orthanc with its DICOMweb plugin, in a folder of its own, on ports of this machine"

    def __init__(self, place: Path, modalities=None):
        self.http, self.dicom, self.place = free_port(), free_port(), place
        place.mkdir(exist_ok=True)
        self.config = {
            **{"Name": "test", "StorageDirectory": str(place), "IndexDirectory": str(place)},
            **{"HttpPort": self.http, "DicomPort": self.dicom, "DicomAet": "ORTHANC"},
            **{"RemoteAccessAllowed": False, "AuthenticationEnabled": False},
            **{"DicomAlwaysAllowStore": True, "OverwriteInstances": False},
            **{"Plugins": [PLUGIN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}},
            "DicomModalities": modalities or {},
        }
        self.start()

    def start(self):
        path = self.place / "orthanc.json"
        path.write_text(json.dumps(self.config))
        with open(self.place / "log", "a") as log:
            self.process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log)
        wait_for(self.answers)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, data: bytes | None = None):
        "The answer to a request of Orthanc's own interface: bytes, or what JSON says"
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        kind = answer.headers.get("Content-Type", "")
        return json.loads(body) if "json" in kind else body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    @property
    def peer(self) -> Peer:
        return Peer("127.0.0.1", self.dicom, "ORTHANC")

    def count(self) -> int:
        return self.ask("/statistics")["CountInstances"]

    def file(self, uid: str) -> bytes:
        "An instance as it is stored"
        (found,) = self.ask("/tools/lookup", uid.encode())
        return self.ask(f"/instances/{found['ID']}/file")


@pytest.fixture
def orthanc(tmp_path):
    needs("Orthanc", PLUGIN)
    place = Orthanc(tmp_path / "orthanc")
    yield place
    place.stop()


@pytest.mark.parametrize("kind", FILMS)
def test_orthanc_stores_and_returns_every_object_unchanged(kind, bright, orthanc, tmp_path):  # noqa: F811
    "Sent by C-STORE and by STOW-RS, fetched by its own interface and by WADO-RS"
    for way in ("c-store", "stow"):
        place = tmp_path / way
        place.mkdir()
        uids = {"StudyInstanceUID": f"1.2.3.{len(way)}", "SOPInstanceUID": f"1.2.3.4.{len(way)}"}
        data = pydicom.dcmread(BytesIO(FILMS[kind]))
        for keyword, value in uids.items():
            setattr(data, keyword, value)
        data.file_meta.MediaStorageSOPInstanceUID = uids["SOPInstanceUID"]
        file = BytesIO()
        pydicom.dcmwrite(file, data)
        (record,) = explained(bright, place, {"film.dcm": file.getvalue()}).values()
        files = {k: (place / "out" / p).read_bytes() for k, p in record["dicom"].items()}
        assert len(files) == 4
        if way == "c-store":
            association = connected(orthanc.peer, "XRAY")
            for path in record["dicom"].values():
                assert sent(place / "out" / path, association) == 0
            association.release()
        else:
            assert dicomweb.store(dicomweb.server_at(orthanc.url), files) == ""
        client = dicomweb.client_of(dicomweb.server_at(orthanc.url))
        for name, before in files.items():
            ds = pydicom.dcmread(BytesIO(before))
            uid = ds.SOPInstanceUID
            after = pydicom.dcmread(BytesIO(orthanc.file(uid)))
            where = ds.StudyInstanceUID, ds.SeriesInstanceUID, uid
            over_web = client.retrieve_instance(*where)
            for back in (after, over_web):
                assert back.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID, name
                assert back.to_json() == ds.to_json(), name
            if "PixelData" in ds:
                assert np.array_equal(after.pixel_array, ds.pixel_array)


def fill(folder: Path, count: int, studies: int = 50) -> dict[str, bytes]:
    "Small films, by UID"
    folder.mkdir()
    rng, films = np.random.default_rng(0), {}
    base = pydicom.dcmread(BytesIO(film()))
    base.Rows, base.Columns = 200, 150
    for number in range(count):
        uid = f"1.2.826.0.1.1702.{number}"
        base.SOPInstanceUID = base.file_meta.MediaStorageSOPInstanceUID = uid
        base.StudyInstanceUID = f"1.2.826.0.1.1703.{number % studies}"
        base.SeriesInstanceUID = f"{base.StudyInstanceUID}.1"
        base.PatientID, base.InstanceNumber = f"P{number % studies}", number + 1
        base.PixelData = rng.integers(0, 4096, 200 * 150, np.uint16).tobytes()
        file = BytesIO()
        pydicom.dcmwrite(file, base, enforce_file_format=True)
        films[uid] = file.getvalue()
        (folder / f"{number:04}.dcm").write_bytes(films[uid])
    return films


class NodeProcess:
    "`xray-explain node` in a process of its own"

    def __init__(self, out: Path, peer: Peer, checkpoint: Path, *more):
        self.port, self.log = free_port(), out.with_suffix(".log")
        self.command = [*MAIN, "node", "--calling", "STORESCU", "ORTHANC", "--port", str(self.port)]
        self.command += ["--store-to", f"{peer.host}:{peer.port}:{peer.title}", *more]
        self.command += ["--checkpoint", str(checkpoint), "--output-dir", str(out)]
        self.start()

    def start(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        wait_for(lambda: "results go to" in self.log.read_text())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds=90) -> str:
        self.process.terminate()
        assert self.process.wait(seconds) == 0
        return self.log.read_text()


def storescu(port: int, paths: list[Path]) -> subprocess.Popen:
    "DCMTK's sender; it ends at the first film that is not taken"
    command = ["storescu", "-aet", "STORESCU", "-aec", "XRAY_EXPLAIN", "127.0.0.1", str(port)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, *map(str, paths)], stdout=quiet, stderr=quiet)


def test_a_thousand_films_four_associations_a_kill_and_a_peer_that_is_away(
    model,  # noqa: F811
    orthanc,
    tmp_path,
):
    "DCMTK sends, Orthanc receives; every film gets each of its objects, once"
    needs("storescu")
    films = fill(tmp_path / "films", 1000)
    paths = sorted((tmp_path / "films").iterdir())
    node = NodeProcess(tmp_path / "out", orthanc.peer, model[1], "--dicom-out", "gsps,sr")
    parts = [paths[i::4] for i in range(4)]
    senders = [storescu(node.port, part) for part in parts]
    wait_for(lambda: orthanc.count() > 100, 600)
    node.kill()
    for sender in senders:
        sender.wait(120)
    orthanc.stop()  # for a minute
    node.start()
    # a modality that had no answer sends again, here everything
    senders = [storescu(node.port, part) for part in parts]
    away = time.monotonic()
    for sender in senders:
        assert sender.wait(600) == 0
    time.sleep(max(0, 60 - (time.monotonic() - away)))
    assert "results wait" in node.log.read_text()
    orthanc.start()
    wait_for(lambda: orthanc.count() >= 2000, 900)
    time.sleep(2)  # for one too many
    said = node.stop()
    assert orthanc.count() == 2000, said
    modalities = Counter()
    for one in orthanc.ask("/series?expand"):
        modalities[one["MainDicomTags"]["Modality"]] += len(one["Instances"])
    assert modalities == {"PR": 1000, "SR": 1000}
    lines = [json.loads(line) for line in open(tmp_path / "out" / "run" / "sent.jsonl")]
    assert len(lines) == len({line["object"] for line in lines}) == 2000
    records = json.loads((tmp_path / "out" / "batch_results.json").read_text())
    assert sorted(r["image_name"] for r in records) == sorted(map(instance_name, films))
    assert not list((tmp_path / "out").rglob("*.dcm"))
    assert "ORTHANC answers again" in said


def test_orthanc_sends_and_a_storescp_that_takes_nothing_compressed_receives(
    model,  # noqa: F811
    tmp_path,
):
    needs("Orthanc", PLUGIN, "storescp", "echoscu")
    port, kept = free_port(), tmp_path / "kept"
    kept.mkdir()
    scp = subprocess.Popen(["storescp", "-od", str(kept), "-aet", "SCP", str(port)])
    node = NodeProcess(tmp_path / "out", Peer("127.0.0.1", port, "SCP"), model[1])
    archive = Orthanc(tmp_path / "orthanc", {"xray": ["XRAY_EXPLAIN", "127.0.0.1", node.port]})
    try:
        subprocess.run(
            [*("echoscu", "-aet", "STORESCU", "-aec", "XRAY_EXPLAIN"), "127.0.0.1", str(node.port)],
            check=True,
        )
        fill(tmp_path / "films", 5)
        for path in (tmp_path / "films").iterdir():
            archive.ask("/instances", path.read_bytes())
        archive.ask("/modalities/xray/store", json.dumps(archive.ask("/instances")).encode())
        wait_for(lambda: len(list(kept.iterdir())) == 20)
        said = node.stop()
    finally:
        archive.stop()
        scp.terminate()
    objects = [pydicom.dcmread(path) for path in kept.iterdir()]
    assert Counter(ds.SOPClassUID for ds in objects) == dict.fromkeys(OBJECTS, 5)
    assert not any(ds.file_meta.TransferSyntaxUID.is_compressed for ds in objects), said
    assert "20 results sent" in said


def test_infer_over_orthancs_dicomweb(model, orthanc, tmp_path):  # noqa: F811
    films = fill(tmp_path / "films", 12, studies=3)
    for data in films.values():
        orthanc.ask("/instances", data)
    command = [*MAIN, "infer", "--dicomweb", orthanc.url, "--query", "ModalitiesInStudy=DX"]
    command += ["--checkpoint", str(model[1]), "--output-dir", str(tmp_path / "out"), "--store"]
    for _ in range(2):  # the second finds nothing to do
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert orthanc.count() == 12 + 48
    place = command.index("--query")
    command[place : place + 2] = ["--study", "1.2.826.0.1.1703.1"]
    command[command.index("--output-dir") + 1] = str(tmp_path / "one")
    done = subprocess.run(command, capture_output=True, text=True)
    records = json.loads((tmp_path / "one" / "batch_results.json").read_text())
    assert len(records) == 4 and orthanc.count() == 60  # they were there
    for out in ("out", "one"):
        assert b"1.2.826" not in written(tmp_path / out)
