"Tables as people write them: words of a split, the column of the class, names of rows; each by its own table and both kinds of file."

import collections
import csv
import json
import re
import shutil

import numpy as np
import openpyxl
import pandas as pd
import pytest
from fake_btxrd import write

from xray_explain.cli import main
from xray_explain.data.archive import DatasetError
from xray_explain.data.audit import audit
from xray_explain.data.cases import read_cases
from xray_explain.data.listing.split_file import read_split_file
from xray_explain.data.phantom import write_phantoms
from xray_explain.data.split import grouping_words, split_cases
from xray_explain.files import PACKAGE
from xray_explain.measure.study import open_cases
from xray_explain.model.batches import training_split
from xray_explain.model.checkpoint import Checkpoint, build_net, save_checkpoint
from xray_explain.read.preprocessing import Preprocessing

KNOWN = [
    ("train", "val", "test"),
    ("Train", "Val", "Test"),
    ("TRAINING", "Valid", "TESTING"),
    (" training ", "validation\t", "Holdout"),
    ("train", "Dev", "HOLDOUT "),
]
UNKNOWN = [("0", "1", "2"), ("tr", "va", "te"), ("train", "val", "NA"), ("Train", "tune", "Test")]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("tables") / "set", 8, 3, 90, 1, progress=False)


@pytest.fixture(scope="module")
def model():
    net = build_net("test_efficientnet", 3).eval()
    return Checkpoint(
        net, "test_efficientnet", ("Normal", "Benign", "Malignant"), Preprocessing((64, 64))
    )


@pytest.fixture
def marked(phantoms, tmp_path):
    "A function: the phantoms with these words, half of each class trains, a quarter each decides and tests"

    def mark(words, column="split"):
        folder = tmp_path / "marked"
        folder.mkdir(exist_ok=True)
        for name in ("images", "Annotations"):
            if not (folder / name).exists():
                (folder / name).symlink_to(phantoms / name)
        table = pd.read_csv(phantoms / "dataset.csv", dtype=str)
        turns = [words[max(0, k // 3 % 4 - 1)] for k in range(len(table))]
        table.assign(**{column: turns}).to_csv(folder / "dataset.csv", index=False)
        return folder, table.image_id.to_frame().assign(word=turns)

    return mark


def words_of(cases, written) -> dict:
    "Which words the cases were marked with, and how many of each"
    return dict(collections.Counter(written.set_index("image_id").word[cases.table.image_id]))


@pytest.mark.parametrize("words", KNOWN, ids=" ".join)
@pytest.mark.parametrize("column", ["split", " Split"])
def test_words_of_a_split_mean_what_they_say(words, column, marked, model):
    folder, written = marked(words, column)
    cases = read_cases(folder)
    fit, held = training_split(cases)
    assert words_of(fit, written) == {words[0]: 12}
    assert words_of(held, written) == {words[1]: 6}
    assert words_of(open_cases(folder, model), written) == {words[2]: 6}
    for asked in ("test", "Testing", "HOLDOUT"):
        assert len(open_cases(folder, model, asked)) == 6
    assert cases.problems == ()


@pytest.mark.parametrize("words", KNOWN, ids=" ".join)
def test_words_of_a_split_file_mean_what_they_say(words, phantoms, marked, model, tmp_path):
    _, written = marked(words)
    written.rename(columns={"word": "split"}).to_csv(tmp_path / "split.csv", index=False)
    fit, held = training_split(read_cases(phantoms, split_file=tmp_path / "split.csv"))
    assert (words_of(fit, written), words_of(held, written)) == ({words[0]: 12}, {words[1]: 6})
    tested = open_cases(phantoms, model, split_file=tmp_path / "split.csv")
    assert words_of(tested, written) == {words[2]: 6}


@pytest.mark.parametrize("words", UNKNOWN, ids=" ".join)
def test_other_words_are_refused_by_name(words, marked, model, tmp_path):
    folder, written = marked(words)
    strange = [w for w in words if w.casefold() not in ("train", "val", "test")]
    written.rename(columns={"word": "split"}).to_csv(tmp_path / "split.csv", index=False)
    for read in (
        lambda: read_cases(folder),
        lambda: open_cases(folder, model),
        lambda: open_cases(folder, model, "test"),
        lambda: read_split_file(tmp_path / "split.csv"),
    ):
        with pytest.raises(DatasetError, match="write train .or training., val .valid") as error:
            read()
        counts = {words[0]: 12, words[1]: 6, words[2]: 6}
        assert all(f"'{w}' ({counts[w]} rows)" in str(error.value) for w in strange)
    assert read_cases(folder, use_split=False).problems == ()  # where it is not asked for


def test_nothing_runs_on_a_table_with_other_words(marked, model, tmp_path, capsys):
    folder, written = marked(("0", "1", "2"))
    save_checkpoint(tmp_path / "guess.safetensors", model)
    checkpoint = ("--checkpoint", str(tmp_path / "guess.safetensors"))
    for command in (
        ("train", str(folder), "--output-dir", str(tmp_path / "run"), "--epochs", "1"),
        ("evaluate", str(folder), *checkpoint, "--output", str(tmp_path / "figures.json")),
        ("calibrate", str(folder), *checkpoint, "--output", str(tmp_path / "new.safetensors")),
    ):
        assert main(list(command)) == 1
        said = capsys.readouterr().err
        assert (
            said.count("\n") == 1 and "'0' (12 rows), '1' (6 rows), '2' (6 rows): no word" in said
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["guess.safetensors", "marked"]
    found = audit(folder, progress=False).findings
    assert found.finding.str.startswith("split that is no word for one").sum() == 24
    # a split file needs no word of the table
    written.assign(split=["train", "test"] * 12).to_csv(tmp_path / "new.csv", index=False)
    assert set(read_cases(folder, split_file=tmp_path / "new.csv").table["split"]) == {
        "train",
        "test",
    }


def _guess(names=("Normal", "Benign", "Malignant")):
    net = build_net("test_efficientnet", len(names)).eval()
    return Checkpoint(net, "test_efficientnet", names, Preprocessing((64, 64)))


def test_without_test_cases_a_reader_is_told_of_those_trained_on(marked, model):
    folder, _ = marked(("train", "val", "val"))
    cases = open_cases(folder, model)
    assert len(cases) == 24
    assert cases.caveat.endswith("so all are taken, also 24 marked train or val.")
    folder, _ = marked(("train", "val", "test"))
    assert "No case is marked test" not in open_cases(folder, model).caveat


def test_a_cell_without_a_word_is_said_and_used_by_nobody(marked, model):
    folder, written = marked(("train", None, "test"))
    assert "neither trained on nor tested with (6)" in " ".join(read_cases(folder).problems)
    assert len(open_cases(folder, model)) == 6
    folder, written = marked((None, "val", "test"))
    fit, held = training_split(read_cases(folder))
    assert (len(fit), len(held)) == (12, 6)
    assert "trained on, as none is marked train (12)" in " ".join(read_cases(folder).problems)


# --- the column of the class


@pytest.fixture
def atlas(phantoms, tmp_path):
    "As FracAtlas lies: pictures by class in folders, the class in a column of 0 and 1, one picture cut off"
    folder = tmp_path / "atlas"
    table = pd.read_csv(phantoms / "dataset.csv")[["image_id", "tumor", "center"]]
    for name, tumor in zip(table.image_id, table.tumor):
        below = folder / "images" / ("Fractured" if tumor else "Non_fractured")
        below.mkdir(parents=True, exist_ok=True)
        data = (phantoms / "images" / name).read_bytes()
        (below / name).write_bytes(data[: len(data) // 2 if name == table.image_id[0] else None])
    table.rename(columns={"tumor": "fractured"}).to_csv(folder / "dataset.csv", index=False)
    return folder


def test_the_column_of_the_class_is_asked_for_and_named(atlas, tmp_path, capsys):
    out = ("--output-dir", str(tmp_path / "out"))
    assert main(["audit", str(atlas), *out]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "with --label; there are image_id, fractured, center" in said
    assert main(["audit", str(atlas), "--label", "fractured", *out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "24 rows, 24 with a label and a picture" in said
    assert "picture that cannot be read 1 IMG000001.jpeg" in said
    assert "--label fractured:0=Normal" in said  # nobody knows which class is the healthy one
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {c: n["all"] for c, n in record["by_class"].items()} == {"0": 8, "1": 16, "all": 24}


def test_classes_of_a_checkpoint_and_of_the_data_are_laid_side_by_side(atlas, tmp_path, capsys):
    save_checkpoint(tmp_path / "guess.safetensors", _guess(("Normal", "Fracture")))
    command = ["evaluate", str(atlas), "--checkpoint", str(tmp_path / "guess.safetensors")]
    assert main([*command, "--label", "fractured"]) == 1
    said = capsys.readouterr().err
    assert (
        "label is none of Normal, Fracture but 0, 1; --label fractured:0=CLASS,1=CLASS would"
        in said
    )
    # the cut-off picture is one failure, and the rest is done
    assert main([*command, "--label", "fractured:0=Normal,1=Fracture"]) == 1
    said = capsys.readouterr()
    assert "23 cases of atlas" in said.out and "failed: IMG000001.jpeg" in said.err
    # one class of two has another name: said, and the others are done
    assert main([*command, "--label", "fractured:0=Normal"]) == 1
    assert "label is none of Normal, Fracture but 1" in capsys.readouterr().err


@pytest.mark.slow
def test_every_command_that_reads_data_takes_the_column(tmp_path, capsys):
    folder = write_phantoms(tmp_path / "set", 24, 3, 90, 1, progress=False)
    label = ("--label", "tumor:0=Healthy,1=Tumour")
    toy = ("--architecture", "test_efficientnet", "--image-size", "64", "--epochs", "1")
    run, plan, figures = tmp_path / "run", tmp_path / "plan.csv", tmp_path / "figures.json"
    assert main(["split", str(folder), *label, "--output", str(plan)]) == 0
    assert set(pd.read_csv(plan).label) == {"Healthy", "Tumour"}
    split = ("--split-file", str(plan))
    assert main(["train", str(folder), *label, *split, *toy, "--output-dir", str(run)]) == 0
    assert "synthetic phantoms" in capsys.readouterr().out  # the caveat of the cases
    checkpoint = ("--checkpoint", str(run / "model.safetensors"))
    new = ("--output", str(tmp_path / "new.safetensors"), "--split", "all")
    assert main(["calibrate", str(folder), *label, *checkpoint, *new]) == 0
    asked = ["evaluate", str(folder), *label, *split, *checkpoint, "--output", str(figures)]
    assert main(asked) == 0
    assert "cases of set: accuracy" in capsys.readouterr().out


# --- names of rows


@pytest.mark.parametrize(
    "row, file, match",
    [
        ("1.2.840.7", "1.2.840.png", False),
        ("1.2.840.7", "1.2.840.7.png", True),
        ("1.2.840.7", "1.2.840.7", True),
        ("knee.left", "knee.png", False),
        ("a.jpeg", "a.jpg", True),
        ("a.JPEG", "a.png", True),
        ("a.7", "a.8.png", False),
        ("left/a.png", "right/a.png", False),
        ("set/left/a.png", "left/a.png", True),
        ("C:\\films\\images\\a.png", "a.png", True),
    ],
)
def test_a_row_takes_its_own_picture_only(row, file, match, tmp_path):
    picture = tmp_path / "images" / file
    picture.parent.mkdir(parents=True)
    write(tmp_path / "film.png", np.arange(6400.0).reshape(80, 80) % 251)
    picture.write_bytes((tmp_path / "film.png").read_bytes())
    pd.DataFrame({"image_id": [row], "label": ["Malignant"]}).to_csv(
        tmp_path / "dataset.csv", index=False
    )
    if match:
        assert read_cases(tmp_path).table.image[0] == str(picture)
    else:
        with pytest.raises(DatasetError, match="no picture of that name"):
            read_cases(tmp_path)


# --- BTXRD's flags and workbooks


@pytest.mark.parametrize("name", ["dataset.csv", "dataset.xlsx"])
@pytest.mark.parametrize(
    "yes, no", [(1, 0), ("TRUE", "FALSE"), (True, False), (1.0, 0.0), ("1.0", "0.0"), (1, None)]
)
def test_flags_in_other_words(yes, no, name, phantoms, tmp_path):
    (tmp_path / "images").symlink_to(phantoms / "images")
    table = pd.read_csv(phantoms / "dataset.csv")
    flags = ["tumor", "benign", "malignant"]
    written = table[flags].astype(object).map(lambda flag: yes if flag else no)
    written = table.assign(**written)
    save = written.to_csv if name.endswith("csv") else written.to_excel
    save(tmp_path / name, index=False)
    cases = read_cases(tmp_path)
    assert (
        cases.table.label.tolist()
        == np.where(
            table.malignant, "Malignant", np.where(table.benign, "Benign", "Normal")
        ).tolist()
    )
    assert bool(cases.problems) == (no is None)  # blanks are read as 0, and that is said
    if (yes, name) == ("TRUE", "dataset.csv"):
        findings = audit(tmp_path, progress=False).findings.finding
        assert not findings.str.contains("neither|both|but no|not all|subtypes").any()


def test_formulas_that_nobody_has_calculated_are_named(phantoms, tmp_path):
    (tmp_path / "images").symlink_to(phantoms / "images")
    book = openpyxl.Workbook()
    book.active.append(["image_id", "label", "remark"])
    for n in (1, 2, 3):
        book.active.append([f"IMG{n:06d}.jpeg", '=IF(1,"Benign","")', "=A2"])
    book.save(tmp_path / "dataset.xlsx")
    with pytest.raises(
        DatasetError, match=r"no usable case. cell whose formula has no value; open"
    ):
        read_cases(tmp_path)
    book.active["B2"] = "Benign"
    book.save(tmp_path / "dataset.xlsx")
    cases = read_cases(tmp_path)  # a remark costs nothing
    assert len(cases) == 1
    assert any("formula has no value" in p and "(5): C2, B3, C3" in p for p in cases.problems)


# --- groups


def test_a_caveat_says_what_is_true_of_these_cases(phantoms, model, tmp_path):
    folder = write_phantoms(tmp_path / "films", 8, 3, 90, 1, progress=False)
    (folder / "phantoms.csv").unlink()  # now it is a table in BTXRD's layout like any other
    images = pd.read_csv(folder / "dataset.csv").image_id
    plan = pd.DataFrame({"image_id": images, "split": ["train"] * 12 + ["test"] * 12})
    plan["group"] = [f"patient {n // 4}" for n in range(24)]
    plan.to_csv(tmp_path / "split.csv", index=False)
    asked = dict(split_file=tmp_path / "split.csv")
    assert "patients cannot be separated" in read_cases(folder).caveat
    for cases, number, groups in (
        (read_cases(folder, **asked), 24, 6),
        (open_cases(folder, model, **asked), 12, 3),
    ):
        assert "patients cannot be separated" not in cases.caveat
        assert cases.caveat.startswith(
            f"The group of each of the {number} cases is known ({groups} groups, none of which"
        )
    plan.assign(split=["train", "test"] * 12).to_csv(tmp_path / "split.csv", index=False)
    assert "6 groups, of which 6 in several splits, so" in open_cases(folder, model, **asked).caveat
    plan.assign(group=plan.group.where(plan.index < 16, "")).to_csv(
        tmp_path / "split.csv", index=False
    )
    some = open_cases(folder, model, **asked)
    assert some.caveat.startswith("The group is known for 4 of 12 cases (1 group, none of which")
    assert some.table.group.nunique() == 1 + 8  # the others are independent, not one group


# --- the real ones


def part_of(atlas, folder, healthy: int, fractured: int):
    "A part of FracAtlas in its own layout, all cut-off pictures in it"
    table = pd.read_csv(atlas / "dataset.csv")
    where = {p.name: p for p in (atlas / "images").rglob("*.jpg")}
    scan, end = b"\xff\xda", b"\xff\xd9"
    data = {n: p.read_bytes() for n, p in where.items()}
    cut = [n for n, jpeg in data.items() if jpeg.find(end, jpeg.rfind(scan)) < 0]
    some = [*table[table.fractured == 0].image_id[:healthy], *table[table.fractured == 1].image_id]
    names = sorted({*cut, *some[: healthy + fractured]})
    for name in names:
        link = folder / where[name].relative_to(atlas)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(where[name])
    table[table.image_id.isin(names)].to_csv(folder / "dataset.csv", index=False)
    return names, cut


def test_fracatlas_is_read_as_it_lies(shared, tmp_path):
    names, cut = part_of(shared / "fracatlas", tmp_path / "fracatlas", 40, 40)
    found = audit(tmp_path / "fracatlas", progress=False, label="fractured:0=Normal,1=Fracture")
    unreadable = found.findings[found.findings.finding == "picture that cannot be read"]
    assert set(unreadable.image_id) == set(cut) and len(cut) > 45
    assert len(found.usable) == len(names)
    assert found.listing.classes == ("Normal", "Fracture")


@pytest.mark.slow
def test_the_whole_of_both_sets(shared):
    atlas = audit(shared / "fracatlas", progress=False, label="fractured:0=Normal,1=Fracture")
    assert len(atlas.usable) == 2989
    assert (atlas.findings.finding == "picture that cannot be read").sum() == 51
    split_file = shared / "btxrd" / "split.csv"
    bones = read_cases(shared / "btxrd", split_file=split_file)
    assert "The group of each of the 2997 cases is known (1104 groups, none" in bones.caveat


def sisters(plan, named):
    "Cases of several pictures that a split tears, and how many there are"
    several = named[named.duplicated(keep=False)]
    splits = plan.set_index("image_id")["split"].reindex(several.index)
    torn = splits.groupby(several.to_numpy()).nunique() > 1
    return int(torn.sum()), len(torn)


def test_btxrd_is_split_by_case(shared):
    "The cases that its authors' file names tell, which the table leaves out, stay whole"
    cases = read_cases(shared / "btxrd", use_split=False)
    nothing = pd.Series("", cases.table.index)
    known = pd.read_csv(shared / "btxrd" / "split.csv").set_index("image_id").group
    first = cases.table[(cases.table.center == 1) & (cases.table.label != "Normal")].image_id
    plans = [split_cases(cases, nothing, nothing != "", group=group) for group in ((), ("none",))]
    (torn, several), (torn_by_picture, _) = (sisters(plan, known.loc[first]) for plan in plans)
    assert several == 329 and torn <= 0.02 * several and torn_by_picture > 0.4 * several
    assert "center, age, gender" in grouping_words(cases, plans[0])
    assert "taken as independent" in grouping_words(cases, plans[1], ["none"])


def test_a_split_says_what_it_grouped_by(phantoms, tmp_path, capsys):
    folder = tmp_path / "set"
    shutil.copytree(phantoms, folder)
    (folder / "phantoms.csv").unlink()  # so that it counts as BTXRD
    table = pd.read_csv(folder / "dataset.csv").assign(center=1, age=range(24), gender="M")
    table.loc[:2, "age"] = 50
    table.loc[3, "age"] = None
    table.to_csv(folder / "dataset.csv", index=False)
    assert main(["split", str(folder), "--output", str(tmp_path / "split.csv")]) == 0
    said = capsys.readouterr().out
    assert "grouped by rows that agree in center, age, gender, " in said
    assert "1 pictures have a gap there and stand alone" in said
    plan = pd.read_csv(tmp_path / "split.csv", dtype=str)
    assert plan.group.nunique() == 24 and set(plan.grouped_by) != {""}
    caveat = read_cases(folder, split_file=tmp_path / "split.csv").caveat
    assert caveat.startswith("Pictures whose rows agree in center, age, gender, ")
    table["ward"] = ["a", "a", *"bcdefghijklmnopqrstuvw"]
    table.to_csv(folder / "dataset.csv", index=False)
    by_ward = ["--group", "ward", "--output", str(tmp_path / "ward.csv")]
    assert main(["split", str(folder), *by_ward]) == 0
    assert pd.read_csv(tmp_path / "ward.csv").group.nunique() == 23


def test_no_table_of_ours_is_a_formula(tmp_path):
    "Every writer of CSV goes through one guard; what it writes no spreadsheet takes for a formula"
    from xray_explain.files import write_table

    writers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\.to_csv\(|csv\.(Dict)?[wW]riter\(", line) and "guarded" not in line
    }
    # the second guards each row, the third writes numbers alone
    assert writers == {"files.py", "infer/results.py", "model/training.py"}
    names = ['=HYPERLINK("http://x","y")', "@SUM(1)", "+1+1", "-2+3", "plain"]
    write_table(tmp_path / "t.csv", pd.DataFrame({"image_id": names, "-x": [-1.5, 2, 3, 4, 5]}))
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as f:
        cells = [cell for row in csv.reader(f) for cell in row]
    assert [c for c in cells if c[0] in "=+-@"] == ["-1.5"]
    assert [c[1:] for c in cells if c[0] == "'"] == ["-x", *names[:4]]
