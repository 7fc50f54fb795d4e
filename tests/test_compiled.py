"The compiled network: the same results, by the same rules, wherever it is chosen; and exported, without PyTorch."

import copy
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from xray_explain.cli import main
from xray_explain.evidence.cam import explain
from xray_explain.files import PACKAGE
from xray_explain.infer.folder import LocalEngine, Options, explain_one, run
from xray_explain.infer.journal import RunError
from xray_explain.infer.network import Network
from xray_explain.model.calibration import seen_at
from xray_explain.model.checkpoint import Checkpoint, build_net, save_checkpoint
from xray_explain.model.networks import compiled as compiled_module
from xray_explain.model.networks.compiled import (
    LEAST,
    TOLERANCE,
    Compiled,
    Lanes,
    NotCompiled,
    compiled,
    differences,
    probe_pictures,
)
from xray_explain.model.networks.export import FORMATS, export_network, output_names
from xray_explain.model.networks.graph import kept_graph, openvino
from xray_explain.model.novelty import fit_novelty, stage_means
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.processes import Readers
from xray_explain.read.sources import Source, from_folder

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None,  # an import by the test itself would send a message
    reason="OpenVINO is an optional extra: pip install 'xray_explain[compiled]'",
)


@pytest.fixture(scope="module", autouse=True)
def graphs(tmp_path_factory):
    "A cache of this module's own"
    home = str(tmp_path_factory.mktemp("graphs"))
    with mock.patch.dict(os.environ, XRAY_EXPLAIN_CACHE=home):
        yield home


def checkpoint_of(architecture, size=(96, 96), novelty=True, **model_args) -> Checkpoint:
    "Random weights, and what familiar pictures look like to them"
    torch.manual_seed(0)
    net = build_net(architecture, 3, **model_args).eval().requires_grad_(False)
    made = Checkpoint(net, architecture, ("Normal", "Benign", "Malignant"), Preprocessing(size))
    if novelty:
        x = made.preprocessing.normalise(torch.rand(20, *size).cumsum(2) / size[1])
        with torch.no_grad():
            means = stage_means(net, x)[1]
        made.novelty = fit_novelty(means, range(20))
    return made


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return checkpoint_of("test_efficientnet")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "A dozen smooth pictures"
    place = tmp_path_factory.mktemp("films")
    pictures = [grey for n in range(3) for grey in probe_pictures((90, 70 + n))]
    for number, grey in enumerate(pictures):
        cv2.imwrite(str(place / f"film{number:02}.png"), np.uint8(255 * grey))
    return place


FEW = mock.patch.object(compiled_module, "LEAST", 8)


def ran(model, films, out, options=Options(4, overlay_format="none"), **how):
    "run.json and the records of a run"
    sources, count = from_folder(films)
    run(model, sources, count, out, options, progress=False, **how)
    note = json.loads((out / "run" / "run.json").read_text())
    return note, json.loads((out / "batch_results.json").read_text())


def off(records, others) -> float:
    "The largest difference of logits and scores, relative to the largest of them"

    def numbers(rows):
        return np.array([[*r["logits"].values(), r["ood_score"]] for r in rows])

    assert [r["image_name"] for r in records] == [r["image_name"] for r in others]
    a, b = numbers(records), numbers(others)
    return float((np.abs(a - b).max(0) / np.abs(b).max(0)).max())


def test_a_folder_is_compiled_from_some_pictures_on(model, films, tmp_path):
    "Its run says so; its numbers are those of PyTorch within the tolerance, and of every number of workers"
    note, plain = ran(model, films, tmp_path / "few")
    assert (note["runtime"], note["runtime_note"]) == ("pytorch", f"fewer than {LEAST} pictures")
    with FEW:
        note, records = ran(model, films, tmp_path / "many")
        assert note["runtime"] == "openvino" and note["runtime_note"].startswith("OpenVINO 20")
        assert 0 < off(records, plain) < TOLERANCE
        assert (
            ran(model, films, tmp_path / "again", Options(5, overlay_format="none"))[1] == records
        )
        asked = Options(4, overlay_format="none", runtime="pytorch")
        note, records = ran(model, films, tmp_path / "asked", asked)
    assert (note["runtime"], note["runtime_note"]) == ("pytorch", "as asked for")
    assert records == plain


def test_one_picture_is_a_folder_of_one(model, films, tmp_path):
    "The same digits by either runtime"
    one = sorted(films.iterdir())[0]
    for runtime in ("pytorch", "openvino"):
        options = Options(overlay_format="none", runtime=runtime)
        _, records = ran(model, films, tmp_path / runtime, options)
        with Readers(0) as readers:
            source = Source(one.name, str(one))
            record, _ = explain_one(model, source, tmp_path / "one", options, "cpu", readers)
        stored = json.loads((tmp_path / "one" / f"{one.stem}.json").read_text())
        assert stored == records[0] and record["image_name"] == one.name


def test_the_other_runtime_makes_no_other_picture(model, films, tmp_path, capsys):
    "Its record is replaced without a word on another picture of this name; that of another film is not"
    save_checkpoint(tmp_path / "small.safetensors", model)
    for name, runtime, replaced in (
        ("film00", "pytorch", False),
        ("film00", "openvino", False),
        ("film05", "pytorch", True),
    ):
        film = tmp_path / name / "film.png"
        film.parent.mkdir(exist_ok=True)
        film.write_bytes((films / f"{name}.png").read_bytes())
        argv = ["infer", "--image", str(film), "--runtime", runtime, "--no-gradcam"]
        argv += ["--checkpoint", str(tmp_path / "small.safetensors"), "--output-dir"]
        assert main([*argv, str(tmp_path / "out")]) == 0
        assert ("replaced: " in capsys.readouterr().out) == replaced, (name, runtime)


class Interrupted(LocalEngine):
    "Ends after a batch"

    def __call__(self, parts):
        yield next(iter(super().__call__(parts)))
        raise KeyboardInterrupt


def interrupted(model, films, out):
    with pytest.raises(KeyboardInterrupt):
        ran(model, films, out, engine=Interrupted)


def test_a_run_that_is_gone_on_with_keeps_its_runtime(model, films, tmp_path):
    interrupted(model, films, tmp_path / "plain")
    with FEW:  # it has grown since
        note, records = ran(model, films, tmp_path / "plain")
        assert note["runtime"] == "pytorch"
        interrupted(model, films, tmp_path / "quick")
        whole = ran(model, films, tmp_path / "whole")
    assert ran(model, films, tmp_path / "quick") == whole
    assert records != whole[1] and off(records, whole[1]) < TOLERANCE


def test_a_run_is_not_gone_on_with_by_another_runtime(model, films, tmp_path):
    "In one line, which says what to do"
    with FEW:
        interrupted(model, films, tmp_path)
    with pytest.raises(RunError, match="runtime openvino, not pytorch"):
        ran(model, films, tmp_path, Options(4, overlay_format="none", runtime="pytorch"))
    elsewhere = copy.deepcopy(model)  # another machine, where it was never compiled
    with mock.patch.dict(sys.modules, openvino=None):
        with pytest.raises(RunError, match="xray_explain.compiled.*--no-resume"):
            ran(elsewhere, films, tmp_path)
        note, _ = ran(elsewhere, films, tmp_path, resume=False)
    assert note["runtime"] == "pytorch"


class Turned(torch.nn.Module):
    "A graph that looks at the picture upside down"

    def __init__(self, graph):
        super().__init__()
        self.inner = graph

    def forward(self, pictures):
        return self.inner(pictures.flip(1))


def test_a_graph_that_is_not_the_network_is_never_used(model, films, tmp_path):
    "The run goes on with PyTorch, and says why; who insists is told"
    from xray_explain.model.networks import graph as graph_module

    real = graph_module.Graph
    with mock.patch.object(graph_module, "Graph", lambda m: Turned(real(m))), FEW:
        other = copy.deepcopy(model)
        other.net.classifier.bias += 1  # not in the cache
        note, records = ran(other, films, tmp_path / "auto")
        assert note["runtime"] == "pytorch"
        assert note["runtime_note"].startswith("the compiled network is off: ")
        with pytest.raises(RunError, match="the compiled network is off"):
            ran(other, films, tmp_path / "asked", Options(runtime="openvino"))
        assert not (tmp_path / "asked").exists()
    assert len(records) == 12


def test_without_openvino(model, films, tmp_path):
    "Nothing is missing but speed"
    with FEW, mock.patch.object(compiled_module, "find_spec", lambda name: None):
        note, records = ran(model, films, tmp_path / "auto")
    assert (note["runtime"], note["runtime_note"]) == ("pytorch", "OpenVINO is not installed")
    assert len(records) == 12


def test_nothing_is_sent_to_the_makers_of_openvino():
    openvino()
    assert sys.modules["openvino_telemetry"] is None
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__.endswith("telemetry_stub")


def test_threads_get_what_one_gets(model):
    quick = compiled(model)
    batches = [np.random.default_rng(n).random((n % 3 + 1, 96, 96), np.float32) for n in range(12)]
    alone = [quick(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(quick, batches))
    for a, b in zip(alone, together):
        for name in ("logits", "probs", "evidence", "ood_score"):
            assert torch.equal(getattr(a, name), getattr(b, name))


def test_a_graph_is_converted_once_for_all_who_want_it():
    "Threads and processes wait for one another"
    fresh = checkpoint_of("test_resnet", novelty=False)
    with mock.patch.object(openvino(), "convert_model", wraps=openvino().convert_model) as convert:
        with ThreadPoolExecutor(3) as pool:
            made = list(pool.map(kept_graph, [copy.deepcopy(fresh) for _ in range(3)]))
        assert convert.call_count == 1 and len(made) == 3


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from test_compiled import checkpoint_of
from xray_explain.model.networks import graph
real = graph.converted
graph.converted = lambda model: print("converted") or real(model)
graph.kept_graph(checkpoint_of("test_convnext", novelty=False))
"""


@pytest.mark.slow
def test_two_processes_convert_once(graphs):
    here = os.path.dirname(__file__)
    both = [
        subprocess.Popen([sys.executable, "-c", PROCESS, here], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(p.communicate(timeout=300)[0] for p in both) == ["", "converted\n"]


def proved(made: Checkpoint, precision="fp32"):
    "Compiled, and tried on other pictures than the proof's"
    quick = Compiled(made, precision)
    x = 1 - probe_pictures(made.preprocessing.size)[:, ::-1].copy()
    return max(differences(quick(x), explain(made, made.preprocessing.normalise(x))))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext", "fine.test_efficientnet"])
def test_small_networks_of_other_families(architecture):
    args = {"output_stride": 8} if architecture.startswith("fine.") else {}
    assert proved(checkpoint_of(architecture, (96, 128), **args)) < TOLERANCE


def test_bfloat16_is_as_rough_as_pytorchs(model):
    assert 1e-4 < proved(model, "bf16") < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    [
        *("resnet18", "densenet121", "regnety_002", "convnext_atto", "nf_regnet_b1"),
        *("swin_tiny_patch4_window7_224", "efficientnet_b0", "fine.tf_efficientnet_lite0"),
    ],
)
def test_networks_of_other_families(architecture):
    assert proved(checkpoint_of(architecture, (224, 224), novelty=False)) < TOLERANCE


@pytest.mark.parametrize("architecture", ["test_vit", "mobilenetv3_small_050"])
def test_networks_without_a_closed_form_stay_as_they_are(architecture):
    made = checkpoint_of(architecture, (160, 160), novelty=False)
    with pytest.raises(NotCompiled, match="has no closed form"):
        compiled(made)
    assert len(Network(made)(probe_pictures((160, 160)))) == 4


def test_evaluations_and_views_are_compiled_for_as_many_pictures(model, tmp_path):
    "With the numbers of PyTorch within the tolerance"
    from xray_explain.data.cases import read_cases
    from xray_explain.data.phantom import write_phantoms
    from xray_explain.measure.study import examine

    data = write_phantoms(tmp_path / "set", 3, 5, 96, 1, progress=False)
    cases = read_cases(data)
    plain = examine(model, cases, progress=False)
    with FEW, mock.patch.object(compiled_module, "compiled", wraps=compiled) as asked:
        study = examine(model, cases, progress=False)
        assert asked.called
        assert compiled_module.wanted_runtime(9).name == "openvino"
    for name in ("logits", "evidence"):
        a, b = getattr(study, name), getattr(plain, name)
        assert 0 < np.abs(a - b).max() < TOLERANCE * np.abs(b).max()


def exported(made: Checkpoint, path, form: str) -> float:
    "How far a file's outputs are from those of `explain`, in ONNX Runtime or OpenVINO, for several pictures"
    export_network(made, path, form)
    assert str(PACKAGE.parent).encode() not in path.read_bytes(), "it names folders of this machine"
    x = 1 - probe_pictures(made.preprocessing.size)[:3]
    e = explain(made, made.preprocessing.normalise(x))
    wanted = [t for t in (e.probs, e.logits, e.evidence, e.ood_score) if t is not None]
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names, given = [o.name for o in session.get_outputs()], session.run(None, {"pictures": x})
        said = session.get_modelmeta().custom_metadata_map
    else:
        read = openvino().Core().read_model(path)
        names, given = [o.get_any_name() for o in read.outputs], Lanes(read)(x)
        said = read.get_rt_info(["xray_explain"]).value
    assert names == output_names(made)
    facts = {name: json.loads(fact) for name, fact in said.items()}
    assert facts["class_names"] == list(made.class_names)
    assert facts["temperature"] == made.temperature and facts["activation"] == made.activation
    assert facts["preprocessing"]["size"] == list(made.preprocessing.size)
    assert facts["evidence_scale"] == list(made.evidence_scale)
    off = [np.abs(a - b.numpy()).max() / b.abs().max() for a, b in zip(given, wanted, strict=True)]
    return float(max(off))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_exported_to_openvino(model, tmp_path, activation):
    scaled = {"temperature": 1.5, "evidence_scale": (1.0, 2.0, 3.0), "activation": activation}
    assert exported(replace(model, **scaled), tmp_path / "net.xml", "openvino") < TOLERANCE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.bin", "net.xml"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "architecture",
    [
        *("resnet18", "densenet121", "regnety_002", "convnext_atto", "nf_regnet_b1"),
        *("swin_tiny_patch4_window7_224", "efficientnet_b0", "fine.tf_efficientnet_lite0"),
    ],
)
def test_exported_networks_of_other_families(architecture, form, tmp_path):
    made = checkpoint_of(architecture, (224, 224), novelty=False)
    made = replace(made, temperature=0.7, evidence_scale=(1.0, 2.0, 3.0))
    assert exported(made, tmp_path / f"net{FORMATS[form]}", form) < TOLERANCE


def test_what_cannot_be_exported_says_so_and_leaves_nothing(tmp_path, capsys):
    made = checkpoint_of("test_vit", (160, 160), novelty=False)
    save_checkpoint(tmp_path / "vit.safetensors", made)
    argv = ["export", "--checkpoint", str(tmp_path / "vit.safetensors"), "--output"]
    assert main([*argv, str(tmp_path / "out.onnx")]) == 1
    assert "VisionTransformer has no closed form" in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "out.pb")]) == 1
    assert "is called something.onnx" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["vit.safetensors"]


def test_the_same_weights_at_other_scales_are_another_graph():
    "Kept under a name of its own, though weights and canvas are the same"
    once = checkpoint_of("fine.test_efficientnet", novelty=False)
    pictures = probe_pictures((96, 96))
    x = once.preprocessing.normalise(torch.from_numpy(pictures))
    for model in (once, seen_at(once, scales=[0.5]), seen_at(once, scales=[0.75])):
        assert max(differences(Compiled(model)(pictures), explain(model, x))) <= TOLERANCE
