"Data as in the field: a BTXRD look-alike as it is downloaded, audited, split, trained on and reported; hostile archives; real pictures."

import json
import zipfile
from itertools import combinations

import cv2
import numpy as np
import pandas as pd
import pytest
from fake_btxrd import grey, write_btxrd
from test_cli import cli

from xray_explain.data.archive import DatasetError, data_folder
from xray_explain.data.audit import audit
from xray_explain.data.cases import read_cases
from xray_explain.data.duplicates import NEAR, duplicate_of, near_pairs, picture_prints
from xray_explain.data.phantom import write_phantoms
from xray_explain.data.split import plan_split
from xray_explain.wording import RESEARCH_USE


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def download(cache, tmp_path_factory):
    return write_btxrd(tmp_path_factory.mktemp("btxrd"))


@pytest.fixture(scope="module")
def clean(cache, tmp_path_factory):
    return write_btxrd(tmp_path_factory.mktemp("clean"), per_class=20, faults=False)[0]


def test_a_download_is_read_as_it_is(download):
    archive, wrong = download
    before = sorted(p.name for p in archive.parent.iterdir())
    cases = read_cases(archive)
    # the unreadable one shows only when opened
    assert (cases.name, cases.kind, len(cases)) == (
        "BTXRD",
        "btxrd",
        36 + 3 + 1,
    )
    assert dict(cases.table[cases.table.annotation.notna()].label.value_counts()) == {
        "Benign": 12,
        "Malignant": 12,
    }
    assert {i for i in cases.table.image.map(lambda p: p.rpartition(".")[2])} == {"jpeg", "jpg"}
    assert "patients cannot be separated" in cases.caveat
    assert sorted(p.name for p in archive.parent.iterdir()) == before
    unpacked = read_cases(data_folder(archive).parent)  # the folder around the data
    assert unpacked.table.image_id.tolist() == cases.table.image_id.tolist()


def test_the_audit_finds_what_was_planted_and_nothing_else(download, tmp_path):
    archive, wrong = download
    name = lambda key: f"IMG{wrong[key]:06d}.jpeg"
    found = audit(archive, progress=False)
    said = {(f.finding, f.image_id) for f in found.findings.itertuples()}
    assert said == {
        ("both benign and malignant", name("both")),
        ("tumor, but neither benign nor malignant", name("neither")),
        ("no picture of that name in images, or several", name("absent")),
        ("picture that cannot be read", name("unreadable")),
        ("picture in no row", "IMG000999.jpeg"),
        ("outline of no picture in the table", "IMG000998.json"),
        ("outline of another picture or cut, not used", "IMG000006.jpeg"),
        ("picture with another suffix than in the table", "IMG000007.jpeg"),
        ("picture with another suffix than in the table", "IMG000008.jpeg"),
        ("equal pictures", "IMG000002.jpeg"),
        ("nearly equal pictures", "IMG000003.jpeg"),
        ("nearly equal pictures", "IMG000004.jpeg"),
        *(("lesion without an outline", f"IMG{n:06d}.jpeg") for n in (37, 38)),
    }
    sets = found.pictures.groupby("duplicate_of").image_id.apply(set).drop("")
    assert sets.to_dict() == {
        f"IMG{a:06d}.jpeg": {f"IMG{a:06d}.jpeg", f"IMG{b:06d}.jpeg"}
        for a, b in ((2, 37), (3, 38), (4, 39))
    }


def test_audit_command(download, tmp_path):
    done = cli("audit", download[0], "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (
        "Traceback" not in done.stderr
        and RESEARCH_USE in done.stdout
        and "patients cannot be separated" in done.stdout
    )
    assert "picture that cannot be read" in done.stdout and "centre 2" in done.stdout
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["by_class"]["all"]["all"] == 40 and len(record["doubles"]) == 3
    assert len(record["findings"]["lesion without an outline"]) == 2
    for picture in ("overview.png", "contact.png", "doubles.png"):
        assert grey(tmp_path / "out" / picture).std() > 10
    assert not [
        p
        for p in (tmp_path / "out").iterdir()
        if str(tmp_path).encode() in p.read_bytes() or b"/cache" in p.read_bytes()
    ]


def test_stratified_split_shares_groups_and_seed(clean):
    cases = read_cases(clean)
    plan = plan_split(cases, progress=False)
    assert plan.groupby("group")["split"].nunique().max() == 1
    assert plan[plan.duplicate_of != ""].groupby("duplicate_of").size().tolist() == [2, 2, 2]
    shares = pd.crosstab(plan.label, plan["split"], normalize="index")
    assert np.allclose(shares[["train", "val", "test"]], [0.70, 0.15, 0.15], atol=0.05)
    pd.testing.assert_frame_equal(plan_split(cases, progress=False), plan)
    assert not plan_split(cases, seed=5, progress=False)["split"].equals(plan["split"])


def test_split_train_evaluate_and_report_from_the_zip(clean, tmp_path):
    plan, run = tmp_path / "split.csv", tmp_path / "run"
    done = cli("split", clean, "--output", plan)
    assert done.returncode == 0, done.stderr
    assert "looked for and kept on one side" in done.stdout
    assert "Pictures whose rows agree in center, age, gender, " in done.stdout
    small = (
        "--architecture",
        "test_efficientnet",
        "--image-size",
        64,
        "--epochs",
        1,
        "--batch-size",
        8,
    )
    done = cli("train", clean, "--split-file", plan, "--output-dir", run, *small)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(plan)
    test = table[table["split"] == "test"]
    done = cli(
        "evaluate",
        clean,
        "--split-file",
        plan,
        "--checkpoint",
        run / "model.safetensors",
        "--output",
        tmp_path / "figures.json",
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(test)} cases of BTXRD" in done.stdout and "kept on one side" in done.stdout
    done = cli(
        "report",
        "gallery",
        "annotation",
        "--data",
        clean,
        "--split-file",
        plan,
        "--checkpoint",
        run / "model.safetensors",
        "--output-dir",
        tmp_path / "results",
    )
    assert done.returncode == 0, done.stderr
    for page in ("gallery", "annotation"):
        text = (tmp_path / "results" / "reports" / f"{page}.html").read_text()
        assert "rows agree in center, age, gender, " in text
        assert "looked for and kept on one side" in text
    report = json.loads((tmp_path / "results" / "gradcam" / "annotation_report.json").read_text())
    assert {c["image_id"] for c in report["per_image"]} <= set(
        test.image_id
    ) and "kept on one side" in report["caveat"]


def test_centre_hold_out(clean, tmp_path):
    done = cli(
        "split",
        clean,
        "--output",
        tmp_path / "held.csv",
        "--by",
        "centre",
        "--train-on",
        1,
        3,
        "--seed",
        2,
    )
    assert done.returncode == 0, done.stderr
    plan = pd.read_csv(tmp_path / "held.csv", keep_default_na=False)
    assert set(plan[plan["split"].isin(["train", "val"])].centre) == {1, 3} and set(
        plan[plan["split"] == "test"].centre
    ) == {2}
    # picture 4 of centre 1 has its double in centre 2, and what looks like one patient follows it
    plan = plan.set_index("image_id")
    excluded = plan.index[plan["split"] == "excluded"]
    assert "IMG000004.jpeg" in excluded and len(excluded) < 4
    assert set(plan.group[excluded]) == {plan.group["IMG000004.jpeg"]}
    cases = read_cases(clean, split_file=tmp_path / "held.csv")
    assert f"excluded by the split file ({len(excluded)}): " in " ".join(cases.problems)
    assert cases.table.groupby("group")["split"].nunique().max() == 1
    assert set(cases.split("test").table.center) == {2}


def test_small_classes_are_one_clear_line(tmp_path):
    folder = write_phantoms(
        tmp_path / "few", per_class=6, seed=1, size=96, workers=1, progress=False
    )
    done = cli("split", folder, "--output", tmp_path / "split.csv")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "xray-explain: class Benign has 6 independent pictures"
    )
    assert not (tmp_path / "split.csv").exists()


@pytest.mark.parametrize(
    "name, told",
    [
        ("../../evil.jpg", "leads out"),
        ("/tmp/evil.jpg", "leads out"),
        ("C:\\evil.jpg", "leads out"),
        ("images/..\\..\\evil.jpg", "leads out"),
    ],
)
def test_members_that_climb_out(cache, tmp_path, name, told):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as z:
        z.writestr(name, b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=told):
        read_cases(tmp_path / "evil.zip")
    assert sorted(tmp_path.rglob("*")) == before


def test_overlapping_members_are_refused(cache, tmp_path):
    "Entries that all point at one packed member, as in a bomb that passes every check of ratio by member"
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as z:
        z.writestr("images/a.png", np.random.default_rng(0).bytes(4000))
        for n in range(50):
            again = zipfile.ZipInfo(f"images/{n}.png")
            first = z.filelist[0]
            for field in ("header_offset", "compress_size", "file_size", "CRC"):
                setattr(again, field, getattr(first, field))
            z.filelist.append(again)
            z.NameToInfo[again.filename] = again
    with pytest.raises(DatasetError, match="one.zip: it claims to unpack"):
        data_folder(tmp_path / "one.zip")


CHANGES = {
    "rescaled": lambda g: cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "recompressed": lambda g: cv2.imdecode(
        cv2.imencode(".jpg", g, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0
    ),
    "brighter": lambda g: np.clip(g * 1.15 + 10.0, 0, 255).astype(np.uint8),
}


def doubles_of(paths, folder):
    "The doubles found among pictures and a changed copy of each, by every change in turn"
    for n, path in enumerate(paths):
        cv2.imwrite(str(folder / f"{path.stem}.png"), grey(path))
        change = list(CHANGES)[n % 3]
        cv2.imwrite(str(folder / f"{path.stem}~{change}.png"), CHANGES[change](grey(path)))
    made = sorted(folder.iterdir())
    prints = picture_prints(made, progress=False)
    return made, prints, [(made[p.a].stem, made[p.b].stem) for p in near_pairs(prints).itertuples()]


def test_changed_phantoms_are_found_and_different_ones_are_not(tmp_path):
    folder = write_phantoms(
        tmp_path / "set", per_class=20, seed=77, size=200, workers=1, progress=False
    )
    (tmp_path / "made").mkdir()
    made, prints, pairs = doubles_of(sorted((folder / "images").iterdir()), tmp_path / "made")
    assert len(made) == 120 and len(pairs) == 60
    assert all(b.startswith(f"{a}~") for a, b in pairs)
    assert duplicate_of([p.stem for p in made], prints).value_counts().tolist() == [2] * 60


def test_changed_radiographs_are_found_and_different_ones_are_not(shared, tmp_path):
    table = pd.read_csv(shared / "radiographs" / "fractures" / "dataset.csv").query(
        "split == 'train'"
    )[:120]
    made, prints, pairs = doubles_of(
        [shared / "radiographs" / "fractures" / "images" / i for i in table.image_id], tmp_path
    )
    expected = {
        (p.stem, q.stem) for p, q in combinations(made, 2) if q.stem.startswith(f"{p.stem}~")
    }
    assert set(pairs) <= expected  # never two different pictures
    assert len(pairs) >= 0.98 * len(expected) == 0.98 * 120


def test_real_groups_stay_together(shared):
    cases = read_cases(shared / "radiographs" / "fractures")
    assert "independent" not in cases.caveat  # the table has groups
    plan = plan_split(cases, progress=False)
    assert plan.groupby("group")["split"].nunique().max() == 1
    assert (
        plan.set_index("image_id")
        .group.groupby(cases.table.set_index("image_id").group)
        .nunique()
        .max()
        == 1
    )
    shares = plan["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.02) and shares["test"] == pytest.approx(
        0.15, abs=0.02
    )
    assert near_pairs(picture_prints(cases.table.image, progress=False), NEAR).empty
