"A node in a DICOM network: whatever it accepted is explained and sent once, killed wherever it is; nobody else is let in, and nothing grows without bound."

import json
import os
import threading
import time
from collections import Counter
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from test_dicom_objects import bright, film  # noqa: F401, a fixture
from test_dicomweb import PLANTED, planted, written
from test_engine import model  # noqa: F401, a fixture

from xray_explain.cli import main
from xray_explain.infer.dicom.network import delivery, node, spool
from xray_explain.infer.dicom.network.node import OUTBOX, SPOOL, Listening, node_sources, serve_node
from xray_explain.infer.dicom.network.peers import Peer, instance_name
from xray_explain.infer.folder import LocalEngine, Options, run_note
from xray_explain.infer.journal import RecordFile, RunError

pynetdicom = pytest.importorskip("pynetdicom")
FILM = DigitalXRayImageStorageForPresentation
EMPTY = {
    **dict.fromkeys(("prediction", "evidence", "checkpoint"), "x"),
    **dict.fromkeys(("peak_xy", "ood_score", "unlike_training")),
    **{"confidence": 1.0, "scores": {}, "logits": {}, "has_evidence": False, "exact": True},
    **{"above_operating_point": [], "calibrated": False, "image_shape": [9, 9]},
}


class Archive:
    "A peer that keeps what it gets, and counts; with the status that it is told to answer"

    def __init__(self):
        self.got, self.files, self.answer = Counter(), {}, lambda uid: 0
        self._ae = pynetdicom.AE("ARCHIVE")
        self._ae.supported_contexts = pynetdicom.AllStoragePresentationContexts
        for context in self._ae.supported_contexts:
            context.transfer_syntax = pynetdicom.ALL_TRANSFER_SYNTAXES

    def _store(self, event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.answer(uid)
        if status == 0:
            self.got[uid] += 1
            self.files[uid] = event.encoded_dataset()
        return status

    def start(self, port=0) -> Peer:
        handlers = [(pynetdicom.evt.EVT_C_STORE, self._store)]
        self._server = self._ae.start_server(("127.0.0.1", port), False, evt_handlers=handlers)
        return Peer("127.0.0.1", self._server.server_address[1], "ARCHIVE")

    def stop(self):
        self._ae.shutdown()


@pytest.fixture
def archive():
    place = Archive()
    place.peer = place.start()
    yield place
    place.stop()


def association(port: int, title="XRAY", called="NODE", kinds=(FILM,)):
    ae = pynetdicom.AE(title)
    ae.add_requested_context("1.2.840.10008.1.1")
    for kind in kinds:
        ae.add_requested_context(kind, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", port, ae_title=called)


def send(port: int, films: list[bytes]) -> list[int | None]:
    "The status of each; None where there was no answer"
    known, answers = association(port), []
    known.dimse_timeout = 3  # of a node that was killed it would wait half a minute
    for data in films:
        try:
            answer = known.send_c_store(pydicom.dcmread(BytesIO(data)))
        except RuntimeError:
            answer = {}
        answers.append(answer.get("Status"))
    if known.is_established:
        known.release()
    return answers


def small_stages(out: Path):
    "Stages that write one small report for each film"

    def stages(parts):
        for part in parts:
            records = []
            for source in part:
                ds, place = pydicom.Dataset(), f"{source.key}_gradcam.sr.dcm"
                ds.file_meta = pydicom.dataset.FileMetaDataset()
                ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                film_uid = pydicom.dcmread(source.place).SOPInstanceUID
                ds.SOPClassUID, ds.SOPInstanceUID = ComprehensiveSRStorage, f"{film_uid}.9"
                pydicom.dcmwrite(out / OUTBOX / place, ds, enforce_file_format=True)
                records.append({"image_name": source.key, "dicom": {"sr": place}, **EMPTY})
            yield {"records": records, "failures": []}

    return stages


@contextmanager
def running(out: Path, peer: Peer, stages=None, classes=(), note=None, **listening):
    "A node in a thread; gives it and its port"
    ready, there = threading.Event(), {}

    def told(*both):
        there["node"], there["port"] = both
        ready.set()

    listening = Listening("NODE", ("XRAY",), 0, **listening)
    arguments = (listening, peer, out, 4, classes, told)
    stages = stages or small_stages(out)
    thread = threading.Thread(
        target=serve_node, args=(stages, note or {"of": "test"}, *arguments), daemon=True
    )
    thread.start()
    assert ready.wait(20)
    try:
        yield there["node"], there["port"]
    finally:
        there["node"].ending.set()
        thread.join(40)
        assert not thread.is_alive()


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_films_by_several_associations_come_back_as_objects_of_their_study(
    bright,  # noqa: F811
    archive,
    tmp_path,
):
    "Of four senders, in a peer's own words; nothing of a patient stays"
    out, options = tmp_path / "out", Options(overlay_format="none", dicom_out="sc,gsps,sr,seg")
    run = bright, node_sources(), out / OUTBOX, options
    stages, note = LocalEngine(*run), run_note(bright, node_sources(), options)
    answers = []
    with running(out, archive.peer, stages, bright.class_names, note) as (there, port):
        films = [[planted(number)] for number in range(4)]
        threads = [
            threading.Thread(target=lambda part=part: answers.extend(send(port, part)))
            for part in films
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(archive.got) == 16, 60)
        assert send(port, films[0]) == [0]  # once more
        time.sleep(0.3)
    assert answers == [0] * 4 and set(archive.got.values()) == {1} and len(archive.got) == 16
    objects = [pydicom.dcmread(BytesIO(data)) for data in archive.files.values()]
    assert Counter(ds.Modality for ds in objects) == {"OT": 4, "PR": 4, "SR": 4, "SEG": 4}
    assert {str(ds.PatientName) for ds in objects} == {"QZMark^Jane"}
    names = [r["image_name"] for r in json.loads((out / "batch_results.json").read_text())]
    assert sorted(names) == sorted(instance_name(f"1.2.826.0.1.1701.{n}") for n in range(4))
    assert not PLANTED.search(written(out)) and not list(out.rglob("*.dcm"))
    assert all((out / name).stat().st_mode & 0o077 == 0 for name in (SPOOL, OUTBOX))


POINTS = {
    "a film is on the disk, its sender does not know": (spool, "sync_folder", "after"),
    "before the record": (RecordFile, "append", "before"),
    "on record, the film still there": (RecordFile, "append", "after"),
    "sent, no line on it": (delivery.Delivery, "_note", "before"),
    "a line on it, the object still there": (delivery.Path, "unlink", "before"),
}

QUICK = {"before the record", "sent, no line on it"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes that share what is loaded")
@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=() if p in QUICK else pytest.mark.slow) for p in POINTS],
)
def test_a_kill_loses_nothing_and_doubles_nothing(point, archive, tmp_path):
    "At every point between two states; the sender sends again what was not answered"
    place, name, when = POINTS[point]
    films = [film(SOPInstanceUID=f"1.2.7.{number}") for number in range(6)]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        real, calls = getattr(place, name), Counter()

        def dies(*args, **kwargs):
            calls[0] += threading.current_thread().name == "delivery" or place is not delivery.Path
            late = calls[0] >= 3
            if late and when == "before":
                os._exit(9)
            answer = real(*args, **kwargs)
            if late:
                os._exit(9)
            return answer

        setattr(place, name, dies)
        try:
            with running(tmp_path, archive.peer) as (_, port):
                os.write(write, f"{port}\n".encode())
                time.sleep(30)
        finally:
            os._exit(1)
    port = int(os.read(read, 99))
    answers = send(port, films)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    lost = [data for data, status in zip(films, answers) if status != 0]
    with running(tmp_path, archive.peer) as (there, port):
        assert set(send(port, lost)) <= {0} if lost else True
        wait_for(lambda: len(archive.got) == 6)
        wait_for(lambda: not len(there.spool) and not len(there.delivery))
    assert set(archive.got) == {f"1.2.7.{number}.9" for number in range(6)}
    doubled = sum(archive.got.values()) - 6
    # what was on its way in that very moment has the same UID, by which an archive knows it
    assert doubled == (point == "sent, no line on it")
    assert not list(tmp_path.rglob("*.dcm"))


def test_what_there_is_no_room_for_is_refused_until_there_is(archive, tmp_path):
    archive.stop()
    stages, go = small_stages(tmp_path), threading.Event()

    def slow(parts):
        for batch in stages(parts):
            go.wait()
            yield batch

    with running(tmp_path, archive.peer, slow, most=2) as (there, port):
        films = [film(SOPInstanceUID=f"1.2.7.{number}") for number in range(3)]
        assert send(port, films) == [0, 0, 0xA700]
        go.set()
        wait_for(lambda: not len(there.spool))  # explained, though nobody takes the results
        assert len(list((tmp_path / OUTBOX).glob("*.dcm"))) == 2
        assert send(port, films[2:]) == [0]
        archive.start(archive.peer.port)
        wait_for(lambda: len(archive.got) == 3)
    assert set(archive.got.values()) == {1}


def test_strangers_other_objects_and_too_large_ones(archive, monkeypatch, tmp_path):
    monkeypatch.setattr(node, "LARGEST", 2_000_000)
    with running(tmp_path, archive.peer) as (_, port):
        assert not association(port, "STRANGER").is_established
        assert not association(port, called="OTHER").is_established
        known = association(port, kinds=(FILM, CTImageStorage))
        assert known.send_c_echo().Status == 0
        assert [c.abstract_syntax for c in known.rejected_contexts] == [CTImageStorage]
        known.release()
        huge = film(SOPInstanceUID="1.2.7.1", PixelData=bytes(3_000_000))
        assert send(port, [huge]) == [None]
        assert send(port, [film(SOPInstanceUID="1.2.7.2")]) == [0]
        wait_for(lambda: archive.got)
    assert list(archive.got) == ["1.2.7.2.9"]


def test_a_peer_that_is_full_or_refuses(archive, tmp_path, capfd):
    "Full: later; refused for good: kept, and said"
    answers = {"1.2.7.1.9": [0xA700, 0], "1.2.7.2.9": [0xC000]}
    archive.answer = lambda uid: answers.get(uid, [0]).pop(0)
    with running(tmp_path, archive.peer) as (there, port):
        send(port, [film(SOPInstanceUID=f"1.2.7.{number}") for number in (1, 2)])
        wait_for(lambda: there.delivery.sent == there.delivery.refused == 1)
    assert list(archive.got) == ["1.2.7.1.9"]
    kept = list((tmp_path / OUTBOX / "refused").glob("*.dcm"))
    assert [p.name.partition("_")[0] for p in kept] == [instance_name("1.2.7.2")]
    said = capfd.readouterr().out
    assert "ARCHIVE: it has no room; results wait" in said
    assert "refuses a result (status C000); it is kept" in said and "1.2.7" not in said


def test_two_nodes_and_other_models_keep_apart(archive, tmp_path):
    with running(tmp_path, archive.peer) as (_, port):
        arguments = Listening("NODE", ("XRAY",), 0), archive.peer, tmp_path, 4, ()
        with pytest.raises(RunError, match="another run is writing here"):
            serve_node(small_stages(tmp_path), {"of": "test"}, *arguments)
        taken = Listening("NODE", ("XRAY",), port), archive.peer, tmp_path / "b", 4, ()
        with pytest.raises(RunError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serve_node(small_stages(tmp_path / "b"), {"of": "test"}, *taken)
    with pytest.raises(RunError, match="it holds a run with of test, not other"):
        serve_node(small_stages(tmp_path), {"of": "other"}, *arguments)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--store-to", "pacs"], "a peer is HOST:PORT:AET"),
        (["--ae-title", "longer than sixteen"], "1 to 16 plain characters"),
        (["--port", "70000"], "below 65536"),
        (["--most-films", "0"], "room for one film"),
        (["--dicom-out", ""], "a node sends something"),
        (["--dicom-out", "pdf"], "unknown kind of DICOM object 'pdf'"),
    ],
)
def test_wrong_usage_is_one_line(words, line, tmp_path, capsys):
    base = ["node", "--calling", "PACS", "--store-to", "127.0.0.1:4:PACS"]
    assert main([*base, "--output-dir", str(tmp_path / "out"), *words]) == 1
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_the_library_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("xray_explain.infer.dicom.network.peers.find_spec", lambda _: None)
    assert main(["node", "--calling", "PACS", "--store-to", "127.0.0.1:4:PACS"]) == 1
    assert "a DICOM node needs pynetdicom" in capsys.readouterr().err
