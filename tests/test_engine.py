"Folders of pictures through real processes: killed, interrupted, broken, full, and twice at once."

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from hostile_corpus import dicom

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.evidence.cam import explain
from xray_explain.files import six_digits
from xray_explain.infer import record
from xray_explain.infer.folder import LocalEngine, Options, run
from xray_explain.infer.inference import infer_image
from xray_explain.infer.journal import RunError
from xray_explain.infer.network import Network
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint, save_checkpoint
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder
from xray_explain.wording import RESEARCH_USE

CLI = [
    sys.executable,
    "-c",
    "import sys; from xray_explain.cli import main; sys.exit(main())",
    "infer",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A small network, and the file it is in"
    torch.manual_seed(0)
    net = build_net("test_efficientnet", 3).eval().requires_grad_(False)
    checkpoint = Checkpoint(
        net,
        "test_efficientnet",
        ("Normal", "Benign", "Malignant"),
        Preprocessing(size=(96, 96)),
        name="small",
    )
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, checkpoint)
    return checkpoint, path


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    "One radiograph as JPEG"
    folder = write_phantoms(
        tmp_path_factory.mktemp("one") / "set",
        per_class=1,
        seed=31,
        size=160,
        workers=1,
        progress=False,
    )
    return cv2.imread(str(sorted((folder / "images").iterdir())[2]), cv2.IMREAD_GRAYSCALE)


def fill(folder: Path, picture, count: int) -> Path:
    "Pictures that differ, in three folders that have the same names"
    rng = np.random.default_rng(count)
    for i in range(count):
        path = folder / "abc"[i % 3] / f"film{i // 3:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.roll(picture, rng.integers(0, 160, 2), (0, 1)))
    return folder


def spoil(folder: Path, share: float) -> dict:
    "Break some of the pictures in every way we know; gives key and a word of the reason"
    paths = sorted(p for p in folder.rglob("*.jpg"))
    some = random.Random(0).sample(paths, round(share * len(paths)))
    data = paths[0].read_bytes()
    ways = [
        (b"", "empty"),
        (b"dear colleague", "not a picture"),
        (data[: len(data) // 2], "broken"),
        (data[:20], "not a picture"),
        (b"\0" * 500, "not a picture"),
        (cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes(), "at least 16"),
        (b"\0" * 128 + b"DICM" + b"\0" * 99, "holds no picture"),
        (cv2.imencode(".png", np.zeros((90, 90), np.uint8))[1].tobytes()[:-30], "broken"),
    ]
    for i, path in enumerate(some):
        path.write_bytes(ways[i % len(ways)][0])
    gone = some[-1]
    gone.unlink()
    gone.symlink_to(folder / "nowhere.jpg")  # not a file, so not an input
    return {
        p.relative_to(folder).as_posix(): ways[i % len(ways)][1] for i, p in enumerate(some[:-1])
    }


def files(folder: Path) -> dict:
    "Every file of a folder of results but the record file, whose lines may have another order"
    kept = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "records.jsonl")
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept
    }


def start(*options, before=lambda: None):
    "The command line in a process of its own; `before` runs in it first"

    def prepare():
        # a shell starts what is in the background deaf to Ctrl-C, and its children inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()

    return subprocess.Popen(
        [*CLI, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=prepare,
    )


def finish(process, seconds=600):
    return (*process.communicate(timeout=seconds), process.returncode)


def children(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for(what, seconds=120):
    "The first true value of what()"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def lines(out):
    return (
        (out / "run" / "records.jsonl").read_bytes().count(b"\n")
        if (out / "run" / "records.jsonl").exists()
        else 0
    )


def killed_and_resumed(model, picture, tmp_path, count, kills):
    "Results of an uninterrupted run, and of one killed at random moments; and how far the second came each time"
    folder, rng = fill(tmp_path / "in", picture, count), random.Random(5)
    spoil(folder, 0.05)
    options = [
        "--input-dir",
        folder,
        "--checkpoint",
        model[1],
        "--batch-size",
        4,
        "--workers",
        2,
        "--overlay-size",
        64,
    ]
    said, errors, status = finish(start(*options, "--output-dir", tmp_path / "whole"))
    assert status == 1 and "Traceback" not in errors
    out, reached, workers = tmp_path / "killed", [], []
    for _ in range(kills):
        process, before = start(*options, "--output-dir", out), lines(out)
        # at a moment between any two steps of the next few batches, and sometimes before the first
        target = before + rng.randint(0, max(1, count // 4 // kills))
        wait_for(
            lambda: (
                lines(out) >= target
                and (target > before or children(process.pid))
                or process.poll() is not None
            )
        )
        time.sleep(rng.random() * 0.05)
        workers += children(process.pid)
        process.kill()
        process.communicate()
        reached.append(lines(out))
    *_, status = finish(start(*options, "--output-dir", out))
    assert status == 1
    wait_for(lambda: not any(w.is_running() and w.status() != "zombie" for w in workers), 10)
    return files(tmp_path / "whole"), files(out), reached, workers


def check_killed(whole, again, reached, workers, count):
    assert again == whole
    assert workers, "no worker was ever seen"
    assert len(set(reached)) > 1 and reached[0] < -(-count // 4)


def test_killed_three_times_resumed_to_the_same(model, picture, tmp_path):
    check_killed(*killed_and_resumed(model, picture, tmp_path, 60, 3), 60)


@pytest.mark.slow
def test_killed_ten_times_resumed_to_the_same(model, picture, tmp_path):
    check_killed(*killed_and_resumed(model, picture, tmp_path, 300, 10), 300)


def broken_folder(model, picture, tmp_path, count):
    folder, out = fill(tmp_path / "in", picture, count), tmp_path / "out"
    spoilt = spoil(folder, 0.05)
    sources, found = from_folder(folder)
    counts = run(
        model[0], sources, found, out, Options(16, overlay_format="none"), workers=2, progress=False
    )
    records, failures = (
        json.loads((out / f"{n}.json").read_text()) for n in ("batch_results", "failures")
    )
    keys = [r["image_name"] for r in records] + [f["image_name"] for f in failures]
    assert sorted(keys) == sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg") if p.is_file()
    )
    assert len(set(keys)) == len(keys) and (counts.explained, counts.failed) == (
        len(records),
        len(failures),
    )
    assert {f["image_name"] for f in failures} == set(spoilt)
    for f in failures:
        assert spoilt[f["image_name"]] in f["reason"] and Path(f["image_name"]).name in f["reason"]


def test_200_pictures_with_broken_ones(model, picture, tmp_path):
    broken_folder(model, picture, tmp_path, 200)


@pytest.mark.slow
def test_2000_pictures_with_broken_ones(model, picture, tmp_path):
    broken_folder(model, picture, tmp_path, 2000)


def test_threads_on_one_model_get_what_one_gets(model):
    torch.manual_seed(1)
    batches = [torch.randn(n % 3 + 1, 3, 96, 96) for n in range(24)]
    alone = [explain(model[0], x) for x in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda x: explain(model[0], x), batches))
    for a, b in zip(alone, together):
        assert torch.equal(a.logits, b.logits) and torch.equal(a.evidence, b.evidence)


def test_names_in_several_folders_do_not_meet(model, picture, tmp_path):
    folder = tmp_path / "in"
    for name in ("a/x.png", "b/x.png", "x.png", "x.jpg", "x.png.jpg", "a_x.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture)
    sources, count = from_folder(folder)
    assert run(model[0], sources, count, tmp_path / "out", progress=False).explained == 6
    records = json.loads((tmp_path / "out" / "batch_results.json").read_text())
    assert len({r["overlay"] for r in records}) == 6
    for r in records:
        assert cv2.imread(str(tmp_path / "out" / r["overlay"])).shape[:2] == picture.shape


def test_two_runs_at_once(model, picture, tmp_path):
    folder, out = fill(tmp_path / "in", picture, 150), tmp_path / "out"
    options = ["--input-dir", folder, "--checkpoint", model[1], "--output-dir", out, "--workers", 1]
    first = start(*options)
    wait_for(lambda: list(out.rglob("lock")) and children(first.pid))
    first.send_signal(signal.SIGSTOP)
    try:
        _, errors, status = finish(start(*options))
    finally:
        first.send_signal(signal.SIGCONT)
    assert (
        status == 1 and "another run is writing here" in errors and errors.strip().count("\n") <= 1
    )
    assert finish(first)[2] == 0


def test_ctrl_c_keeps_what_is_done(model, picture, tmp_path):
    folder, out = fill(tmp_path / "in", picture, 120), tmp_path / "out"
    process = start(
        "--input-dir",
        folder,
        "--checkpoint",
        model[1],
        "--output-dir",
        out,
        "--workers",
        1,
        "--batch-size",
        4,
    )
    wait_for(lambda: lines(out) >= 2)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors, status = finish(process)
    assert status == 130 and "Traceback" not in errors
    results = json.loads((out / "batch_results.json").read_text())
    assert 8 <= len(results) < 120 and len(results) % 4 == 0
    assert workers and not any(w.is_running() and w.status() != "zombie" for w in workers)


class FullAfter(LocalEngine):
    "The disk is full after a number of batches"

    def __call__(self, parts):
        for i, batch in enumerate(super().__call__(parts)):
            if i == 2:
                raise OSError(28, "No space left on device", "somewhere")
            yield batch


def test_full_disk_is_one_line_and_resumable(model, picture, tmp_path):
    sources, count = from_folder(fill(tmp_path / "in", picture, 20))
    with pytest.raises(
        RunError, match="disk is full .* 8 pictures are finished and kept: free some space"
    ):
        run(model[0], sources, count, tmp_path / "out", Options(4), FullAfter, progress=False)
    assert (
        run(model[0], sources, count, tmp_path / "out", Options(4), progress=False).explained == 20
    )
    assert (
        run(model[0], sources, count, tmp_path / "whole", Options(4), progress=False).explained
        == 20
    )
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_file_size_limit_is_one_line(model, picture, tmp_path):
    import resource

    folder, out = fill(tmp_path / "in", picture, 40), tmp_path / "out"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
    options = [
        "--input-dir",
        folder,
        "--checkpoint",
        model[1],
        "--output-dir",
        out,
        "--batch-size",
        4,
        "--no-gradcam",
        "--workers",
        0,
    ]
    _, errors, status = finish(start(*options, before=limit))
    told = [line for line in errors.splitlines() if line.startswith("xray-explain: ")]
    assert (
        status == 1 and len(told) == 1 and "disk is full" in told[0] and "Traceback" not in errors
    )
    assert 0 < lines(out) < 10
    said, errors, status = finish(start(*options))
    assert status == 0 and "40 explained, 0 failed" in said


def test_pictures_one_by_one_keep_their_own_files(model, picture, tmp_path, capsys):
    "Names that differ behind a dot; one name twice is said"
    from xray_explain.cli import main

    films, out = tmp_path / "in", tmp_path / "out"
    for n, name in enumerate(("left/1.2.11", "left/1.2.12", "left/knee.png", "right/knee.png")):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".png", np.roll(picture, 20 * n, 1))[1].tobytes()
        (films / name).write_bytes(data)
        options = ["--checkpoint", str(model[1]), "--output-dir", str(out)]
        for _ in range(1 + (n == 0)):  # the same once more replaces nothing but itself
            assert main(["infer", "--image", str(films / name), *options]) == 0
            assert ("replaced: " in capsys.readouterr().out) == (name == "right/knee.png"), name
    names = {"1.2.11": "1.2.11", "1.2.12": "1.2.12", "knee": "knee.png"}
    files = {f"{stem}{end}" for stem in names for end in (".json", "_gradcam.png")}
    assert {p.name for p in out.iterdir()} == files
    for stem, name in names.items():
        assert json.loads((out / f"{stem}.json").read_text())["image_name"] == name


def test_other_options_are_refused_in_one_line(model, picture, tmp_path):
    folder, out = fill(tmp_path / "in", picture, 6), tmp_path / "out"
    options = ["--input-dir", folder, "--checkpoint", model[1], "--output-dir", out, "--workers", 0]
    assert finish(start(*options))[2] == 0
    for changed, told in (
        (["--batch-size", 5], "batch size 16, not 5"),
        (["--overlay-format", "jpeg"], "overlay format png, not jpeg"),
    ):
        _, errors, status = finish(start(*options, *changed))
        assert (
            status == 1
            and errors.startswith("xray-explain: out: it holds a run with " + told)
            and errors.count("\n") == 1
        )
    _, _, status = finish(start(*options, "--batch-size", 5, "--no-resume"))
    assert status == 0 and json.loads((out / "run" / "run.json").read_text())["batch_size"] == 5


def test_manifest_and_pattern_from_the_command_line(model, picture, tmp_path):
    folder = fill(tmp_path / "in", picture, 9)
    (folder / "list.csv").write_text("id,file\n1,c/film0001.jpg\n2,a/film0000.jpg\n3,a/gone.jpg\n")
    options = ["--checkpoint", model[1], "--workers", 0]
    said, errors, status = finish(
        start(
            "--manifest",
            folder / "list.csv",
            "--path-column",
            "file",
            "--output-dir",
            tmp_path / "m",
            *options,
        )
    )
    assert status == 1 and "gone.jpg" in errors
    results = json.loads((tmp_path / "m" / "batch_results.json").read_text())
    assert [r["image_name"] for r in results] == ["c/film0001.jpg", "a/film0000.jpg"]
    assert (
        finish(
            start("--input-dir", f"{folder}/**/*2.jpg", "--output-dir", tmp_path / "p", *options)
        )[2]
        == 0
    )
    results = json.loads((tmp_path / "p" / "batch_results.json").read_text())
    assert [r["image_name"] for r in results] == [f"{c}/film0002.jpg" for c in "abc"]


def test_no_path_of_this_machine_in_the_results(model, picture, tmp_path):
    sources, count = from_folder(fill(tmp_path / "in", picture, 5))
    run(model[0], sources, count, tmp_path / "out", progress=False)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".csv", ".parquet"):
            assert str(tmp_path).encode() not in path.read_bytes()


def test_reduced_reading_moves_probabilities_little(model, tmp_path):
    "Large JPEGs by both readings: the bound that a user of an older checkpoint may rely on"
    folder = write_phantoms(
        tmp_path / "set", per_class=2, seed=8, size=1500, workers=1, progress=False
    )
    way = {c: Preprocessing(size=(96, 96), contrast=c) for c in ("none", "stretch", "clahe")}
    for contrast, full in way.items():
        less = replace(full, reading="reduced")
        films = [[w.read(p) for w in (full, less)] for p in sorted((folder / "images").iterdir())]
        assert all(
            b.pixels.size * 16 <= a.pixels.size * 1.02 and a.shape == b.shape for a, b in films
        )
        canvases = [
            np.stack([w.canvas(pair[i]) for pair in films]) for i, w in enumerate((full, less))
        ]
        a, b = (np.stack([o.probs for o in Network(model[0])(c)]) for c in canvases)
        assert 0 < np.abs(a - b).max() < 0.01, contrast


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, picture):
    "A JPEG far larger than the canvas, a PNG and a DICOM file"
    folder = tmp_path_factory.mktemp("mixed") / "in"
    folder.mkdir()
    large = cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "large.jpg"), large)
    cv2.imwrite(str(folder / "left.png"), picture[:, ::-1])
    deep = picture.astype(np.uint16) * 16
    (folder / "deep.dcm").write_bytes(dicom(deep, BurnedInAnnotation="YES"))
    return folder


@pytest.fixture(scope="module")
def thrifty(model, tmp_path_factory):
    "The file of a checkpoint that reads large JPEGs reduced"
    path = tmp_path_factory.mktemp("thrifty") / "thrifty.safetensors"
    save_checkpoint(
        path, replace(model[0], preprocessing=Preprocessing(size=(96, 96), reading="reduced"))
    )
    return path


def alone_and_together(mixed, thrifty, tmp_path, capsys, *options):
    "Each picture's record, alone and in a folder, and the two folders of results"
    common = ["--checkpoint", str(thrifty), *map(str, options)]
    folder, one = tmp_path / "folder", tmp_path / "one"
    argv = ["infer", "--input-dir", str(mixed), "--workers", "1", "--output-dir", str(folder)]
    assert main([*argv, *common]) == 0
    pairs = []
    for together in json.loads((folder / "batch_results.json").read_text()):
        image = mixed / together["image_name"]
        argv = ["infer", "--image", str(image), "--output-dir", str(one)]
        assert main([*argv, *common]) == 0
        pairs.append((json.loads((one / f"{image.stem}.json").read_text()), together))
    assert len(pairs) == 3, capsys.readouterr()
    return pairs, one, folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_picture_is_a_folder_of_one(mixed, thrifty, tmp_path, capsys, precision):
    options = ("--precision", precision, "--overlay-format", "jpeg", "--overlay-size", 100)
    pairs, one, folder = alone_and_together(mixed, thrifty, tmp_path, capsys, *options)
    for alone, together in pairs:
        assert alone == together
        overlays = [(where / alone["overlay"]).read_bytes() for where in (one, folder)]
        assert overlays[0] == overlays[1] and overlays[0][:3] == b"\xff\xd8\xff"
    assert {a["burned_in_annotation"] for a, _ in pairs} == {True, None}
    model = load_checkpoint(thrifty)
    if precision == "fp32":  # and a program that asks for one picture gets the same
        for alone, _ in pairs:
            inference = infer_image(model, mixed / alone["image_name"])
            record = six_digits(inference.record)
            assert record == {k: alone[k] for k in record}
            assert inference.overlay().shape[:2] == tuple(alone["image_shape"])


def test_maps_of_one_picture_lie_beside_it(mixed, thrifty, tmp_path, capsys):
    pairs, one, folder = alone_and_together(mixed, thrifty, tmp_path, capsys, "--maps")
    for alone, together in pairs:
        mine, ours = np.load(one / alone.pop("maps")), np.load(folder / together.pop("maps"))
        (i,) = np.flatnonzero(ours["image_name"] == alone["image_name"])
        assert alone == together and np.array_equal(mine["evidence"][0], ours["evidence"][i])


def test_pseudonym_of_one_picture_is_that_in_a_folder(mixed, thrifty, tmp_path, capsys):
    common = ["--checkpoint", str(thrifty), "--pseudonymise", str(tmp_path / "secret.key")]
    argv = ["infer", "--image", str(mixed / "left.png"), "--output-dir", str(tmp_path / "one")]
    assert main([*argv, *common]) == 0
    argv = [
        "infer",
        "--input-dir",
        str(mixed),
        "--workers",
        "0",
        "--output-dir",
        str(tmp_path / "f"),
    ]
    assert main([*argv, *common]) == 0
    (alone,) = (json.loads(p.read_text()) for p in (tmp_path / "one").glob("*.json"))
    assert alone in json.loads((tmp_path / "f" / "batch_results.json").read_text())
    assert "left" not in capsys.readouterr().out.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    "option",
    [["--engine", "ray"], ["--ray-address", "127.0.0.1:1"]],
)
def test_what_only_a_folder_can_use_is_refused(mixed, tmp_path, capsys, option):
    argv = ["infer", "--image", str(mixed / "left.png"), "--output-dir", str(tmp_path / "out")]
    assert main([*argv, *option]) == 1
    expected = f"xray-explain: {option[0]} is for folders and manifests, not for one picture\n"
    assert capsys.readouterr().err == expected and not (tmp_path / "out").exists()


def test_a_name_reaches_the_terminal_in_plain_characters(mixed, tmp_path, capsys):
    film = tmp_path / "esc\x1b[31mred.png"
    film.write_bytes((mixed / "left.png").read_bytes())
    argv = ["infer", "--image", str(film), "--output-dir", str(tmp_path / "out"), "--maps"]
    assert main(argv) == 0
    words = capsys.readouterr().out
    assert words.count("red") >= 3 and "\x1b" not in words


def test_threads_and_neighbours_change_no_digit(model):
    canvases = np.random.default_rng(0).random((5, 96, 96), np.float32)
    usual = torch.get_num_threads()
    try:
        for precision in ("fp32", "bf16"):
            network = Network(model[0], precision=precision)
            together = network(canvases)
            for threads in (1, 2, 4):
                torch.set_num_threads(threads)
                for i in range(5):
                    (alone,) = network(canvases[i : i + 1])
                    assert np.array_equal(alone.logits, together[i].logits)
                    assert np.array_equal(alone.evidence, together[i].evidence)
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize(
    "factor, words", [(1, ""), (0.05, ", evidence spread thin"), (-1, ", evidence none")]
)
def test_overlays_say_when_evidence_is_thin_or_absent(monkeypatch, factor, words):
    written = []
    monkeypatch.setattr(record, "stamp", lambda image, text, **more: written.append(text) or image)
    local = np.zeros((3, 3), np.float32)
    local[1, 1] = 2.0 * factor
    way = Preprocessing(size=(96, 96))
    record.draw_overlay(
        np.full((400, 400), 0.5, np.float32), record.Drawing(local, way, 2.0, "Benign 0.770")
    )
    assert written == [f"Benign 0.770{words} · {RESEARCH_USE}"]
