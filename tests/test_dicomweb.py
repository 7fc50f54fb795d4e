"Films from a PACS and results back to it, over DICOMweb: each once, nothing of a patient on the disk, and one clear line where the server fails."

import json
import os
import re
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from fake_pacs import fake_pacs
from pydicom.uid import SecondaryCaptureImageStorage
from test_dicom_objects import bright, film  # noqa: F401, a fixture
from test_engine import model  # noqa: F401, a fixture

from xray_explain.cli import main
from xray_explain.infer.dicom.network import dicomweb
from xray_explain.infer.dicom.network.peers import RADIOGRAPHS, instance_name

STUDY = "1.2.826.0.1.1700"
PLANTED = re.compile(rb"QZMark|1\.2\.826\.0\.1\.17|19011213")  # a name, UIDs, a date of birth


def planted(number: int, study: str = STUDY, **tags) -> bytes:
    "A film whose name, UIDs and date are known again"
    uids = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": f"1.2.826.0.1.1701.{number}",
        "PatientName": "QZMark^Jane",
        "PatientID": "QZMark7",
        "PatientBirthDate": "19011213",
    }
    return film(**uids | tags)


@pytest.fixture
def pacs():
    with fake_pacs() as server:
        yield server


@pytest.fixture
def cli(model, bright, capfd, monkeypatch, tmp_path):  # noqa: F811
    "The command line in this process, with a network that knows bright parts; its status and words"
    monkeypatch.setattr("xray_explain.cli._load", lambda *_, **__: bright)
    monkeypatch.setattr(dicomweb, "FETCHERS", 0)  # whose start takes seconds

    def call(*words, out="out"):
        capfd.readouterr()
        command = ["infer", *words, "--output-dir", str(tmp_path / out), "--workers", "0"]
        status = main(command)
        return status, "".join(capfd.readouterr())

    return call


def records(out: Path) -> list[dict]:
    return json.loads((out / "batch_results.json").read_text())


def written(out: Path) -> bytes:
    "Names and content of everything below a folder"
    files = (p for p in sorted(out.rglob("*")) if p.is_file())
    return b"".join(p.relative_to(out).as_posix().encode() + p.read_bytes() for p in files)


def test_films_come_in_and_results_go_back_each_once(pacs, cli, tmp_path):
    for number in range(5):
        pacs.add(planted(number))
    pacs.add(planted(9, f"{STUDY}.9", Modality="CT"))
    asked = ("--dicomweb", pacs.url + "/", "--query", "ModalitiesInStudy=DX", "--store")
    status, said = cli(*asked)
    assert status == 0, said
    out = tmp_path / "out"
    assert [r["image_name"] for r in records(out)] == [
        instance_name(f"1.2.826.0.1.1701.{number}") for number in range(5)
    ]
    assert len(pacs.stored) == 20 and set(pacs.stored.values()) == {1}
    assert set(pacs.fetched.values()) == {1} and len(pacs.fetched) == 5
    assert all(r["stored"] == ["sc", "gsps", "sr", "seg"] and not r["dicom"] for r in records(out))
    made = [pydicom.dcmread(BytesIO(pacs.files[uid])) for uid in pacs.stored]
    assert {ds.StudyInstanceUID for ds in made} == {STUDY}
    assert {str(ds.PatientName) for ds in made} == {"QZMark^Jane"}
    assert "DICOM objects of 5 of 5 pictures" in said
    # again: what the server has got meanwhile are no films, and nothing is fetched or sent again
    before = written(out)
    assert cli(*asked)[0] == 0
    assert set(pacs.fetched.values()) == {1} and set(pacs.stored.values()) == {1}
    # a film that came later is explained by the same command
    pacs.add(planted(5))
    assert cli(*asked)[0] == 0
    assert len(records(out)) == 6 and len(pacs.stored) == 24 and len(written(out)) > len(before)
    assert set(pacs.stored.values()) == {1}


def test_nothing_of_a_patient_is_written_or_said(pacs, cli, tmp_path):
    for number in range(3):
        pacs.add(planted(number))
    del pacs.files["1.2.826.0.1.1701.1"]
    pacs.add(planted(4)[:-1000])  # what a decoder refuses
    status, said = cli("--debug", "--dicomweb", pacs.url, "--study", STUDY, "--store")
    assert status == 1 and "failed: " in said
    assert not PLANTED.search(written(tmp_path / "out") + said.encode())
    kinds = {p.suffix for p in (tmp_path / "out").rglob("*.*")}
    assert not kinds & {".dcm", ".png", ".jpg", ".npz"}
    # unless it is asked for
    asked = ("--dicom-out", "sr", "--overlay-format", "png")
    cli("--dicomweb", pacs.url, "--study", STUDY, *asked, out="asked")
    assert len(list((tmp_path / "asked").glob("*.png"))) == 2
    objects = list((tmp_path / "asked").glob("*.dcm"))
    assert len(objects) == 2 and PLANTED.search(objects[0].read_bytes())
    # and under a key not even then
    key = ("--pseudonymise", str(tmp_path / "key"))
    cli("--dicomweb", pacs.url, "--study", STUDY, *asked, *key, out="hidden")
    assert len(list((tmp_path / "hidden").glob("*.dcm"))) == 2
    assert not PLANTED.search(written(tmp_path / "hidden"))
    names = {r["image_name"] for r in records(tmp_path / "hidden")}
    assert not names & {r["image_name"] for r in records(tmp_path / "asked")}


def test_a_busy_server_is_asked_again_and_the_same_bytes_arrive(pacs, monkeypatch):
    "What is stored over 1 MB is whole at the second attempt, too"
    monkeypatch.setattr(dicomweb, "PAUSE", 1)
    dicomweb._client.cache_clear()
    data = planted(1, PixelData=bytes(2 * 600 * 450), NumberOfFrames=1)
    large = pydicom.dcmread(BytesIO(data))
    large.add_new(0x00091001, "OB", bytes(3_000_000))
    file = BytesIO()
    pydicom.dcmwrite(file, large)
    pacs.busy = 2
    server = dicomweb.server_at(pacs.url)
    assert dicomweb.store(server, {"sc": file.getvalue()}) == ""
    pacs.busy = 0
    del pacs.files["1.2.826.0.1.1701.1"]
    posts, real = [], pacs.add
    monkeypatch.setattr(pacs, "add", lambda data: (posts.append(len(data)), real(data)))
    client = dicomweb.client_of(server)
    search = client.search_for_instances

    def then_busy(**what):
        rows = search(**what)
        pacs.busy = 2  # when it is asked to store
        return rows

    monkeypatch.setattr(client, "search_for_instances", then_busy)
    assert dicomweb.store(server, {"sc": file.getvalue()}) == ""
    assert posts == [len(file.getvalue())]


def test_a_server_that_refuses_costs_the_picture_until_it_takes_it(pacs, cli, tmp_path):
    pacs.add(planted(1))
    pacs.refuses = True
    asked = ("--dicomweb", pacs.url, "--study", STUDY, "--store", "--dicom-out", "sr,gsps")
    status, said = cli(*asked)
    assert status == 1 and "the server refused 2 of its results (reason A700)" in said
    assert records(tmp_path / "out") == []
    pacs.refuses = False
    assert cli(*asked)[0] == 0
    assert len(records(tmp_path / "out")) == 1 and sorted(pacs.stored.values()) == [1, 1]


def test_a_film_that_is_gone_and_a_server_that_is_gone(pacs, cli, monkeypatch, tmp_path):
    pacs.add(planted(1))
    pacs.add(planted(2))
    listed = dicomweb._listed

    def then_gone(*arguments):
        films = listed(*arguments)
        pacs.files.pop("1.2.826.0.1.1701.2", None)
        return films

    monkeypatch.setattr(dicomweb, "_listed", then_gone)
    status, said = cli("--dicomweb", pacs.url, "--study", STUDY)
    assert status == 1 and len(records(tmp_path / "out")) == 1
    assert f"{instance_name('1.2.826.0.1.1701.2')}: the server does not give it (HTTP 404)" in said
    status, said = cli("--dicomweb", "http://127.0.0.1:9", "--study", STUDY, out="none")
    assert status == 1 and "it does not answer a search (ConnectionError)" in said
    assert STUDY not in said and not (tmp_path / "none").exists()
    status, said = cli("--dicomweb", pacs.url, "--query", "ModalitiesInStudy=MR", out="none")
    assert status == 1 and "no radiographs where that was searched" in said


def test_results_that_are_stored_are_no_films(pacs):
    "An overlay is a Secondary Capture of modality OT; a digitised film has that of a radiograph"
    secondary = dict(sop_class=SecondaryCaptureImageStorage)
    pacs.add(planted(1, Modality="OT", **secondary))
    pacs.add(planted(2, Modality="CR", **secondary))
    pacs.add(planted(3, Modality="DX"))
    pacs.add(planted(4, Modality="MR", sop_class="1.2.840.10008.5.1.4.1.1.4"))
    sources, count = dicomweb.from_dicomweb(dicomweb.server_at(pacs.url), STUDY)
    uids = {source.place.split("/")[2][-1] for source in sources}
    assert uids == {"2", "3"} and count == 2 and SecondaryCaptureImageStorage in RADIOGRAPHS


@pytest.mark.parametrize(
    ("secret", "header"),
    [
        ({dicomweb.TOKEN: "abc"}, "Bearer abc"),
        ({dicomweb.USER: "me:secret:er"}, "Basic bWU6c2VjcmV0OmVy"),
        ({}, None),
    ],
)
def test_what_lets_us_in_is_in_the_environment(secret, header, pacs, monkeypatch, tmp_path):
    "A line in ~/.netrc does not take the token's place"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    if secret:
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    dicomweb._client.cache_clear()
    pacs.add(planted(1))
    dicomweb.from_dicomweb(dicomweb.server_at(pacs.url), STUDY)
    dicomweb._client.cache_clear()
    assert {headers.get("Authorization") for _, headers in pacs.asked} == {header}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--image", "x", "--store"], "--store is for films of a PACS"),
        (["--input-dir", "x", "--study", "1.2"], "--study is for films of a PACS"),
        (["--dicomweb", "http://127.0.0.1:9"], "name the films: --study UID, or --query"),
        (["--dicomweb", "http://127.0.0.1:9", "--query", "Jane"], "a query is KEYWORD=value"),
        (["--dicomweb", "http://127.0.0.1:9", "--study", "Jane"], "digits and dots"),
        (["--dicomweb", "ftp://x", "--study", "1.2"], "is an address such as https://"),
        (["--dicomweb", "http://a:b@c", "--study", "1.2"], "leave name, password and query out"),
        (
            ["--dicomweb", "http://127.0.0.1:9", "--study", "1.2", "--engine", "ray"],
            "explained on this machine; leave out --engine",
        ),
        (
            ["--dicomweb", "http://x", "--study", "1.2", "--store", "--pseudonymise", "k"],
            "leave out --pseudonymise",
        ),
    ],
)
def test_wrong_usage_is_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    assert main(["infer", *words, "--output-dir", "out"]) == 1
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1 and "Jane" not in said
    assert not Path("out").exists()


def test_without_the_library_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    monkeypatch.setattr("xray_explain.infer.dicom.network.peers.find_spec", lambda _: None)
    assert main(["infer", "--dicomweb", "http://127.0.0.1:9", "--study", "1.2"]) == 1
    assert (
        "DICOMweb needs dicomweb-client: pip install 'xray_explain[dicom]'"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_stores_each_object_once(pacs, model, tmp_path):  # noqa: F811
    "By SIGKILL, three times; the server is busy now and then"
    pacs.limit = 100
    for number in range(40):
        pacs.add(planted(number))
    command = ["infer", "--dicomweb", pacs.url, "--study", STUDY, "--store", "--workers", "1"]
    command += ["--checkpoint", str(model[1]), "--output-dir", str(tmp_path / "out")]
    start = [
        sys.executable,
        "-c",
        "import sys; from xray_explain.cli import main; sys.exit(main())",
    ]

    def run():
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*start, *command], env=env, stdout=quiet, stderr=quiet)

    for kill in range(1, 4):
        process, end = run(), time.monotonic() + 120
        while len(pacs.stored) < 30 * kill and time.monotonic() < end:
            time.sleep(0.05)
        pacs.busy = 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run().wait(300) == 0
    assert len(pacs.stored) == 160 and len(records(tmp_path / "out")) == 40
    assert set(pacs.stored.values()) == {1}
    assert not PLANTED.search(written(tmp_path / "out"))
