"Fine networks: exact against formulas of others, and with everything that networks are used for."

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.evidence.activation import centred_evidence
from xray_explain.evidence.cam import evidence_maps, explain
from xray_explain.evidence.head import Ending, find_ending, find_head
from xray_explain.measure.sanity import randomised, stages
from xray_explain.model import recipe
from xray_explain.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    build_net,
    is_half,
    load_checkpoint,
    save_checkpoint,
    start_from,
    start_normalisation,
    timm_name,
)
from xray_explain.model.networks.fine import POOLINGS, STRIDES, WIDTH, FineNet, by_area
from xray_explain.model.networks.folding import folded
from xray_explain.model.novelty import fit_novelty, stage_means
from xray_explain.model.training import first_stages
from xray_explain.read.preprocessing import Preprocessing

CLASSES = ("Normal", "Benign", "Malignant")
NAME = "fine.test_efficientnet"


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(name=NAME, seed=0, **args):
    "In evaluation, with a gate, a sharpness and norms as after a training"
    torch.manual_seed(seed)
    net = build_net(name, 3, **args)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    if hasattr(net.pooling, "gate"):
        torch.nn.init.normal_(net.pooling.gate.weight)
    if hasattr(net.pooling, "log_sharpness"):
        net.pooling.log_sharpness.data.fill_(0.7)
    return net.eval().requires_grad_(False)


def checkpoint_of(net, name=NAME, **more):
    how = {"output_stride": 4, "pooling": "attention"}
    return Checkpoint(net, name, CLASSES, Preprocessing((64, 64)), how, **more)


def unweighed(net, x):
    "The fused cells (B, K, h, w) before any weighing, seen by a hook"
    seen = []
    hook = net.fusion.register_forward_hook(lambda module, given, out: seen.append(out))
    net(x)
    hook.remove()
    return seen[0].detach()


def pooled_by_hand(net, f):
    "(B, K) by the definitions in the literature, and the slope that the map holds, by autograd"
    f = f.double().requires_grad_()
    flat = f.flatten(2)
    if isinstance(net.pooling, torch.nn.Module) and hasattr(net.pooling, "gate"):
        gate = net.pooling.gate.weight.double().flatten()
        a = torch.einsum("k,bkn->bn", gate, flat).exp()
        pooled = (flat * (a / a.sum(1, keepdim=True)).detach()[:, None]).sum(2)
    elif hasattr(net.pooling, "log_sharpness"):
        r = net.pooling.log_sharpness.double().exp()
        pooled = (r * flat).exp().mean(2).log() / r
    else:
        pooled = flat.mean(2)
    (slope,) = torch.autograd.grad(pooled.sum(), f)
    return f.detach(), pooled.detach(), slope


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("stride", STRIDES)
def test_evidence_is_the_slope_of_the_logit_with_the_weights_held(pooling, stride):
    "By autograd in float64 from the unweighed cells; rows and columns that no stride divides"
    net, x = network(output_stride=stride, pooling=pooling), noise(2, 3, 100, 70)
    f, pooled, slope = pooled_by_hand(net, unweighed(net, x))
    W, b = net.classifier.weight.double(), net.classifier.bias.double()
    # log-sum-exp is no sum of values times slopes: each cell has its slope's part of the pooled value
    values = pooled[..., None, None] if pooling == "logsumexp" else f
    expected = torch.einsum("ck,bkhw->bchw", W, values * slope)
    e = explain(net, x)
    assert e.exact and e.kind == "additive" and f.shape[2:] == (-(-100 // stride), -(-70 // stride))
    torch.testing.assert_close(e.evidence.double(), expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(e.logits.double(), pooled @ W.T + b, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(e.evidence.sum((2, 3)) + b.float(), e.logits, rtol=1e-4, atol=1e-6)
    assert ("held" in e.method) == (pooling != "mean")
    assert find_ending(net) == Ending() and net.pooling.shares(f.float()).sum((2, 3)).allclose(
        torch.ones(()), atol=1e-5
    )


def test_classes_and_signs_are_not_the_gates_doing():
    net, x = network(output_stride=4), noise(2, 3, 64, 96)
    plain = torch.einsum("ck,bkhw->bchw", net.classifier.weight, unweighed(net, x))
    evidence = explain(net, x).evidence
    assert (evidence.sign() == plain.sign()).all()
    shares = evidence / plain
    torch.testing.assert_close(shares[:, 0], shares[:, 1], rtol=1e-3, atol=1e-6)
    shifted = replace_weights(net, net.classifier.weight + noise(1, WIDTH))
    torch.testing.assert_close(
        centred_evidence(explain(shifted, x).evidence), centred_evidence(evidence)
    )


def replace_weights(net, weight):
    twin = network(output_stride=4)
    twin.classifier.weight.data = weight
    return twin


def test_a_small_bright_thing_is_not_drowned():
    "3 of 784 cells: 0.4 % of it under the mean, nearly all of it where cells are weighed"
    cells = torch.zeros(1, WIDTH, 28, 28)
    cells[..., 5, 6:9] = 8.0
    pooled = {}
    for pooling in POOLINGS:
        module = network("fine.test_resnet", pooling=pooling).pooling
        if pooling == "attention":
            module.gate.weight.data.fill_(2 / WIDTH)
        pooled[pooling] = float(module(cells).mean((2, 3))[0, 0])
    assert pooled["mean"] == pytest.approx(8 * 3 / 784)
    r = np.exp(0.7)
    assert pooled["logsumexp"] == pytest.approx(
        np.log((781 + 3 * np.exp(8 * r)) / 784) / r, rel=1e-5
    )
    assert pooled["attention"] == pytest.approx(8 * 3 / (3 + 781 * np.exp(-16)), rel=1e-4)


def test_names():
    assert timm_name("timm/fine.resnet18.a1_in1k") == "fine.resnet18.a1_in1k"
    assert timm_name("fine.timm/resnet18") == "fine.resnet18"
    assert isinstance(timm.create_model("fine.test_resnet", num_classes=2), FineNet)
    for name, words in {
        "fine": "names no body",
        "fine.": "names no body",
        "fine.fine.resnet18": "names no body",
        "fine.resnet_18": "no model called 'resnet_18', did you mean 'resnet18'",
        "fine.resnet18.best": "no weights 'best' of resnet18",
        "fine.test_vit": "fine.test_vit: the body has no features with a stride of 8; it has 16",
    }.items():
        with pytest.raises(CheckpointError, match=words) as error:
            build_net(name, 3)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="output_stride of 4, 8 or 16, not 32"):
        build_net(NAME, 3, output_stride=32)
    assert recipe.CHOICES["pooling"] == POOLINGS and recipe.FINE_STRIDES == STRIDES


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_file_gives_back_the_same_network(pooling, tmp_path):
    how = {"output_stride": 4, "pooling": pooling}
    net, x = network(**how), noise(1, 3, 64, 64)
    written = replace(checkpoint_of(net), model_args=how)
    save_checkpoint(tmp_path / "a.safetensors", written)
    read = load_checkpoint(tmp_path / "a.safetensors")
    assert read.fingerprint == written.fingerprint and read.model_args == how
    assert torch.equal(explain(read, x).evidence, explain(net, x).evidence)
    save_checkpoint(tmp_path / "half.safetensors", written, half=True)
    half = load_checkpoint(tmp_path / "half.safetensors")
    assert is_half(tmp_path / "half.safetensors") and half.fingerprint != written.fingerprint
    torch.testing.assert_close(
        explain(half, x).logits, explain(net, x).logits, rtol=0.02, atol=0.01
    )


@pytest.mark.parametrize(
    "name, args, words",
    [
        (NAME, {"output_stride": 4, "pooling": "max"}, "pooling is none of attention, mean"),
        (NAME, {"output_stride": 4, "pooling": ["mean"]}, "pooling is none of attention, mean"),
        (NAME, {"output_stride": 5}, "output_stride of 4, 8 or 16, not 5"),
        (NAME, {"output_stride": [8] * 999}, r"not \[8, 8, 8, 8, 8, 8, 8$"),
        ("fine.fine.\n" + "fine." * 99, {}, r"^a.safetensors: 'fine.*fine' names no body"),
        (NAME, {"output_stride": 4, "pooling": "mean"}, "no place, such as pooling.gate.weight"),
        ("test_efficientnet", {"pooling": "mean"}, "timm cannot build test_efficientnet"),
        (NAME, {"output_stride": 4, "scales": [2.0]}, "scales are no list of up to 3 numbers"),
        (NAME, {"output_stride": 4, "scales": [0.5] * 4}, "scales are no list of up to 3 numbers"),
        (NAME, {"output_stride": 4, "scales": "0.5"}, "scales are no list of up to 3 numbers"),
        ("test_efficientnet", {"scales": [0.5]}, "timm cannot build test_efficientnet"),
        ("fine.no_such_net", {}, "timm knows no model called 'no_such_net'"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(name, args, words, tmp_path):
    wrong = replace(checkpoint_of(network(output_stride=4)), architecture=name, model_args=args)
    save_checkpoint(tmp_path / "a.safetensors", wrong)
    with pytest.raises(CheckpointError, match=words) as error:
        load_checkpoint(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_starts_from_plain_weights_and_back(tmp_path):
    "Of a bare file, under a wrapper's name, and of our own checkpoints, whatever their strides"
    plain = build_net("test_efficientnet", 3, output_stride=16)
    weights = plain.state_dict()
    save_file(weights, tmp_path / "bare.safetensors")
    torch.save({"state_dict": {f"module.{k}": t for k, t in weights.items()}}, tmp_path / "w.pth")
    how = Preprocessing((64, 64), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    ours = Checkpoint(plain, "test_efficientnet", CLASSES, how, {"output_stride": 16})
    save_checkpoint(tmp_path / "plain.safetensors", ours)
    for name in ("bare.safetensors", "w.pth", "plain.safetensors"):
        net = build_net(NAME, 3)
        body = net.body.state_dict()
        assert start_from(net, tmp_path / name) == len(body)
        assert all(torch.equal(t, weights[k]) for k, t in net.body.state_dict().items())
    assert start_normalisation(NAME, str(tmp_path / "plain.safetensors"))[0] == how.mean
    resnet = timm.get_pretrained_cfg("test_resnet")
    assert start_normalisation("fine.test_resnet", "hub") == (resnet.mean, resnet.std)

    fine = network(output_stride=8, seed=1)
    save_checkpoint(
        tmp_path / "fine.safetensors", replace(checkpoint_of(fine), model_args={"output_stride": 8})
    )
    again, coarse = build_net(NAME, 3, output_stride=4), build_net("test_efficientnet", 3)
    taken = start_from(again, tmp_path / "fine.safetensors")
    assert taken == len(fine.state_dict())  # all, and the lateral of the finer stride is new
    for name, tensor in fine.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    start_from(coarse, tmp_path / "fine.safetensors")
    assert torch.equal(coarse.conv_stem.weight, fine.body.conv_stem.weight)
    with pytest.raises(CheckpointError, match="weights fit this network"):
        start_from(build_net("fine.test_resnet", 3), tmp_path / "bare.safetensors")


def test_stages_are_those_of_the_body():
    "The first that plain networks freeze are the first here; the randomization test goes the other way"
    plain, net = build_net("test_efficientnet", 3), network(output_stride=4)
    for count in range(1, 6):
        names = [
            {k for m in first_stages(n, count) for k, v in n.named_modules() if v is m}
            for n in (plain, net)
        ]
        assert {f"body.{name}" for name in names[0]} == names[1]
    order, x = stages(net), noise(8, 3, 64, 64)
    assert order[0] == ["classifier.weight", "classifier.bias"]
    assert all(name.startswith(("fusion.", "pooling.")) for name in order[1])
    before = net.state_dict()
    for depth in (1, 2, len(order)):
        changed = {
            name
            for name, p in randomised(net, depth, x).named_parameters()
            if not torch.equal(p, before[name])
        }
        random = {name for stage in order[:depth] for name in stage}
        assert changed <= random and {n for n in random if n.endswith("conv.weight")} <= changed
    assert explain(randomised(net, len(order), x), x).exact


def test_folding_novelty_and_bfloat16():
    net, x = network(output_stride=4), noise(40, 3, 64, 64)
    quick = folded(net)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in quick.modules())
    torch.testing.assert_close(quick(x[:4]), net(x[:4]), rtol=1e-4, atol=1e-5)
    means = stage_means(net, x)[1]
    sizes = [s.shape[1] for s in build_net("test_efficientnet", 3).forward_intermediates(x[:1])[1]]
    assert means.shape == (40, sum(sizes))  # the same fingerprint as of a plain network
    model = checkpoint_of(net, novelty=fit_novelty(means, np.arange(40)))
    e = explain(model, x[:4])
    assert e.ood_score.shape == (4,) and torch.equal(e.evidence, explain(net, x[:4]).evidence)
    low = explain(folded(net).to(torch.bfloat16), x[:4])
    assert low.exact and low.evidence.dtype == torch.float32
    torch.testing.assert_close(low.logits, explain(net, x[:4]).logits, rtol=0.05, atol=0.02)


def test_guidance_reaches_gate_and_body():
    net, x = network(output_stride=4).train().requires_grad_(True), noise(4, 3, 64, 64)
    features = net.forward_features(x)
    evidence = evidence_maps(net, features, (64, 64))
    (evidence[:, 1, :8].sum() - evidence[:, 1, 8:].sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in (net.pooling.gate.weight, net.body.conv_stem.weight))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A training of two epochs on phantoms from a plain start, with its first stages frozen"
    home = tmp_path_factory.mktemp("fine")
    write_phantoms(home / "data", per_class=14, size=128, workers=1)
    torch.manual_seed(0)
    save_file(build_net("test_efficientnet", 3).state_dict(), home / "start.safetensors")
    options = {
        "architecture": NAME,
        "start": home / "start.safetensors",
        "freeze": 3,
        "output_stride": 4,
        "image_size": 64,
        "epochs": 2,
        "batch_size": 8,
        "guidance": 1,
        "ema": 0,
    }
    words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    assert main(["train", str(home / "data"), "--output-dir", str(home / "run"), *words]) == 0
    return home


def test_a_training_on_phantoms(run, capsys):
    model = load_checkpoint(run / "run/model.safetensors")
    assert model.architecture == NAME
    assert model.model_args == {"output_stride": 4, "pooling": "attention"}
    start = build_net(NAME, 3)
    start_from(start, run / "start.safetensors")
    for name, tensor in model.net.body.state_dict().items():
        frozen = name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1"))
        assert torch.equal(tensor, start.body.state_dict()[name]) == frozen, name
    assert model.net.pooling.gate.weight.abs().sum() > 0 and min(model.evidence_scale) > 0
    log = np.genfromtxt(run / "run/log.csv", delimiter=",", names=True)
    assert log["guidance_loss"][1] < log["guidance_loss"][0]


def test_commands_take_a_fine_model(run, capsys):
    data, model = str(run / "data"), str(run / "run/model.safetensors")
    ready, output = str(run / "ready.safetensors"), str(run / "evaluation")
    assert (
        main(["calibrate", data, "--checkpoint", model, "--split", "all", "--output", ready]) == 0
    )
    film = str(next((run / "data").rglob("*.jp*g")))
    assert main(["infer", "--image", film, "--checkpoint", ready, "--output-dir", output]) == 0
    assert main(["card", "--checkpoint", ready, "--output", str(run / "card.md")]) == 0
    assert f"`{NAME}` (output_stride=4, pooling=attention)" in (run / "card.md").read_text("utf-8")
    read = load_checkpoint(ready)
    assert read.novelty is not None and find_head(read.net).kinds[0] == "additive"
    capsys.readouterr()
    assert main(["train", data, "--output-dir", str(run / "no"), "--pooling", "mean"]) == 1
    assert "or name fine.efficientnet_b0" in capsys.readouterr().err


@pytest.mark.slow
def test_reports_take_a_fine_model(run):
    "The one on faithfulness with the randomization of its stages and every method beside it"
    words = ["--checkpoint", str(run / "run/model.safetensors"), "--output", str(run / "e.json")]
    assert main(["evaluate", str(run / "data"), *words]) == 0
    few = {"cases": 3, "method_cases": 1, "slow_cases": 1, "resamples": 100}
    words = [w for k, v in few.items() for w in ("--set", f"{k}={v}")]
    words += ["--checkpoint", str(run / "run/model.safetensors"), "--data", str(run / "data")]
    assert main(["report", "faithfulness", *words, "--output-dir", str(run / "report")]) == 0
    assert list((run / "report").rglob("faithfulness.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    (
        "resnet18 resnetv2_18 densenet121 regnety_002 mobilenetv3_small_050 efficientnet_b0 "
        "convnext_atto hrnet_w18_small vgg11 dla34 xception41 repvit_m0_9 ghostnet_050 "
        "mobilevit_xxs nfnet_f0 hgnetv2_b0 vovnet39a cspresnet50 res2net50d rexnet_100 "
        "selecsls42 mobilenetv4_conv_small_035 fbnetv3_b edgenext_xx_small inception_v3"
    ).split(),
)
def test_bodies_of_all_families(body):
    "Exact, and every stage can be frozen or made random"
    torch.manual_seed(0)
    net, x = build_net(f"fine.{body}", 3).eval(), noise(1, 3, 96, 128)
    torch.nn.init.normal_(net.pooling.gate.weight, std=0.5)
    e = explain(net, x)
    total = e.evidence.sum((2, 3)) + find_head(net).bias(net)
    assert e.exact and (total - e.logits).abs().max() <= 1e-5 * e.logits.abs().max()
    assert sorted(n for stage in stages(net) for n in stage) == sorted(dict(net.named_parameters()))
    quick = folded(net)
    assert F.cosine_similarity(quick(x), net(x)) > 0.9999


def test_seen_twice_by_the_command(tmp_path, capsys):
    "The same weights on another canvas and at a second scale: calibrated anew, nothing else kept"
    phantoms = write_phantoms(tmp_path / "phantoms", 16, size=96, workers=1, progress=False)
    net = network("fine.test_resnet", output_stride=8)
    kept = {"measured": {"num_images": 9, "data": "others", "accuracy": 0.9}, "temperature": 3.0}
    once = replace(checkpoint_of(net, "fine.test_resnet", **kept), model_args={"output_stride": 8})
    save_checkpoint(tmp_path / "once.safetensors", once)
    given = ["--checkpoint", str(tmp_path / "once.safetensors"), "--split", "all"]
    into = ["--output", str(tmp_path / "twice.safetensors")]
    asked = ["calibrate", str(phantoms), *given, *into]
    assert main([*asked, "--image-size", "96", "--scales", "0.667"]) == 0
    twice = load_checkpoint(tmp_path / "twice.safetensors")
    assert (twice.net.scales, twice.preprocessing.size) == ((0.667,), (96, 96))
    assert not twice.measured and twice.novelty and twice.evidence_scale
    x = noise(4, 3, 96, 96)
    seen, whole, small = (
        explain(n, y) for n, y in ((twice.net, x), (once.net, x), (once.net, by_area(x, (64, 64))))
    )
    assert torch.allclose(seen.logits, (whole.logits + small.logits) / 2, atol=1e-4)
    assert seen.exact and seen.evidence.shape[2:] == (12, 12)
    plain = ["--checkpoint", str(tmp_path / "plain.safetensors"), "--split", "all"]
    net = build_net("test_resnet", 3).eval()
    save_checkpoint(tmp_path / "plain.safetensors", Checkpoint(net, "test_resnet", CLASSES))
    assert main(["calibrate", str(phantoms), *plain, *into, "--scales", "0.5"]) == 1
    assert "scales are of fine networks, and this is test_resnet" in capsys.readouterr().err
