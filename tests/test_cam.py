"""The core against pytorch-grad-cam, and its promise to leave a network as it was.

Weights are random; batch statistics are calibrated on random pictures, or the features of a deep network
would die and every map would agree with every other.
"""

import concurrent.futures
import copy
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from xray_explain.evidence import head as heads
from xray_explain.evidence.cam import evidence_maps, explain, generate_gradcam
from xray_explain.evidence.head import (
    Differentiated,
    PooledLinear,
    PooledNormLinear,
    choose_head,
    find_head,
)

torch.set_num_threads(1)


def pictures(n, size, seed=0):
    "Smooth random pictures: what convolutions answer to"
    noise = torch.randn(
        n, 3, size[0] // 16, size[1] // 16, generator=torch.Generator().manual_seed(seed)
    )
    return nn.functional.interpolate(noise, size, mode="bicubic")


def calibrated(name, size=(96, 128), classes=3, **kwargs):
    "A network in eval mode with random weights, live batch statistics and a head whose weights matter"
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=classes, **kwargs)
    head = net.get_classifier()
    nn.init.normal_(head.weight, std=3 * head.in_features**-0.5)  # logits of a usual size
    nn.init.normal_(head.bias)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.momentum = None  # a plain average over the batches
    with torch.no_grad():
        for seed in range(2 if norms else 0):
            net.train()(pictures(4, size, 100 + seed))
    return net.eval()


# name, size of the picture, layer for pytorch-grad-cam, further options
ADDITIVE = [
    ("efficientnet_b0", (96, 128), "bn2", {}),
    ("efficientnet_b0", (224, 320), "bn2", {}),
    ("efficientnet_b0", (96, 128), "bn2", {"output_stride": 16}),
    ("resnet18", (96, 128), "layer4", {}),
    ("densenet121", (96, 128), "features.norm5", {}),
    ("regnety_002", (96, 128), "s4", {}),
    ("swin_tiny_patch4_window7_224", (224, 224), "norm", {}),
]


def library(net, layer, x, channels_last=False):
    "Grad-CAM of every class by pytorch-grad-cam (B, C, H, W), each picture with a target of its own"
    copied = copy.deepcopy(net)
    cam = GradCAM(
        copied,
        [copied.get_submodule(layer)],
        reshape_transform=(lambda t: t.permute(0, 3, 1, 2)) if channels_last else None,
    )
    classes = net.get_classifier().weight.shape[0]
    return np.stack([cam(x, [ClassifierOutputTarget(c)] * len(x)) for c in range(classes)], 1)


def heatmaps(net, x, classes=3):
    return np.stack(
        [[generate_gradcam(net, x[i : i + 1], c) for c in range(classes)] for i in range(len(x))]
    )


def assert_agree(net, layer, x, **kwargs):
    ours, theirs = heatmaps(net, x), library(net, layer, x, **kwargs)
    # a blank map agrees with anything blank: most of the reference must have something to show
    assert (theirs.std((2, 3)) > 0.05).mean() > 0.6
    assert np.abs(theirs[0] - theirs[1]).max() > 0.05
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("name,size,layer,options", ADDITIVE)
def test_agrees_with_pytorch_grad_cam_and_sums_to_the_logits(name, size, layer, options):
    net, x = calibrated(name, size, **options), pictures(2, size)
    result = explain(net, x)
    assert (result.exact, result.kind) == (True, "additive") and type(
        find_head(net)
    ) is PooledLinear
    assert torch.allclose(
        result.evidence.sum((2, 3)) + net.get_classifier().bias, net(x), rtol=0, atol=1e-4
    )
    assert torch.allclose(result.logits, net(x), atol=1e-5)
    assert_agree(net, layer, x, channels_last=name.startswith("swin"))


def test_convnext_gradient_kind_agrees_and_additive_kind_sums_to_the_logits():
    net, x = calibrated("convnext_atto"), pictures(2, (96, 128))
    assert_agree(net, "stages", x)
    additive, gradient = explain(net, x), explain(net, x, kind="gradient")
    assert (additive.exact, additive.kind) == (True, "additive")
    assert (gradient.exact, gradient.kind) == (False, "gradient")
    head = find_head(net)
    assert type(head) is PooledNormLinear
    assert torch.allclose(additive.evidence.sum((2, 3)) + head.bias(net), net(x), rtol=0, atol=1e-4)
    assert (
        gradient.evidence.sum((2, 3)).abs().max() < 0.05 * additive.evidence.sum((2, 3)).abs().max()
    )
    # the additive map by automatic differentiation with the spread held, written out here
    norm, fc = net.head.norm, net.head.fc
    A = net.forward_features(x).detach().requires_grad_()
    p = A.mean((2, 3))
    spread = (p.var(1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
    y = fc(norm.weight * (p - p.mean(1, keepdim=True)) / spread + norm.bias)
    for c in range(3):
        slope = torch.autograd.grad(y[:, c].sum(), A, retain_graph=True)[0]
        assert torch.allclose((slope * A).sum(1), additive.evidence[:, c], atol=1e-4)


@pytest.mark.parametrize(
    "name,kind",
    [
        ("test_vit", "token"),
        ("test_vit", "avg"),
        ("mobilenetv3_small_050", None),
        ("test_convnext2", None),
    ],
)
def test_every_other_head_agrees_with_the_gradient_of_the_whole_network(name, kind):
    "A brute-force Grad-CAM, through the whole network, at the layer that the result names"
    options = {"global_pool": kind} if kind else {}
    net, x = calibrated(name, **options), pictures(1, (96, 128))
    result = explain(net, x, kind="gradient")
    seen = []
    layer = net.get_submodule(result.method.split(" at ")[1]) if " at " in result.method else None
    hook = layer and layer.register_forward_hook(lambda m, a, out: seen.append(out))
    features = net.forward_features(x)
    logits = net.forward_head(features)
    if hook:
        hook.remove()
    A = seen[0] if seen else features
    for c in range(3):
        slope = torch.autograd.grad(logits[0, c], A, retain_graph=True)[0]
        cells, slopes = A, slope
        if A.ndim == 3:
            cells, slopes = (t[:, 1:].transpose(1, 2).unflatten(2, (6, 8)) for t in (A, slope))
        expected = (slopes.mean((2, 3), keepdim=True) * cells).sum(1).detach()
        assert expected.std() > 1e-6
        assert (result.evidence[:, c] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_averaged_tokens_behind_a_norm_are_additive():
    net, x = calibrated("test_vit", global_pool="avg"), pictures(2, (96, 160))
    result = explain(net, x)
    assert result.exact and result.evidence.shape == (2, 3, 6, 10)
    assert torch.allclose(result.evidence.sum((2, 3)) + find_head(net).bias(net), net(x), atol=1e-4)


@pytest.mark.parametrize(
    "name,size",
    [
        ("resnet18", (128, 192)),
        ("test_convnext", (128, 192)),
        ("test_vit", (128, 192)),
        ("swin_tiny_patch4_window7_224", (224, 224)),
    ],
)
def test_a_change_in_one_corner_moves_the_map_there(name, size):
    "Orientation against the picture itself, which no head can vouch for"
    net, x = calibrated(name, size), pictures(1, size)
    before = explain(net, x).evidence
    for rows in (0, 1):
        for columns in (0, 1):
            h, w = size[0] // 4, size[1] // 4
            changed = x.clone()
            changed[
                :, :, rows * 3 * h : rows * 3 * h + h, columns * 3 * w : columns * 3 * w + w
            ] += 3
            moved = (explain(net, changed).evidence - before).abs().mean((0, 1))
            gh, gw = moved.shape
            halves = [
                [moved[: gh // 2, : gw // 2], moved[: gh // 2, -(gw // 2) :]],
                [moved[-(gh // 2) :, : gw // 2], moved[-(gh // 2) :, -(gw // 2) :]],
            ]
            means = torch.tensor([[float(q.mean()) for q in row] for row in halves])
            assert means.argmax() == rows * 2 + columns


# Heads that are wrong on purpose
def wrong(turn, name):
    def evidence(self, *args, **kwargs):
        return turn(PooledLinear.evidence(self, *args, **kwargs))

    return type(name, (PooledLinear,), {"evidence": evidence, "gradcam": evidence})


WRONG = [
    wrong(lambda E: E.transpose(2, 3), "Transposed"),
    wrong(lambda E: E.flip(2), "UpsideDown"),
    wrong(lambda E: E.flip(3), "Mirrored"),
    wrong(lambda E: E.roll(1, 3), "Rolled"),
    wrong(lambda E: 1.01 * E, "Scaled"),
    wrong(lambda E: E.flip(1), "ClassesSwapped"),
    wrong(lambda E: E.mean((2, 3), keepdim=True).expand_as(E), "Flat"),
]


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("head", WRONG, ids=lambda head: head.__name__)
def test_a_wrong_adapter_is_caught(name, head):
    options = {"depths": (1, 1, 1, 1), "embed_dim": 24} if "swin" in name else {}
    net = calibrated(name, (224, 224), **options)
    assert choose_head(net, (head,)) is None
    assert type(choose_head(net, (head, Differentiated))) is Differentiated
    assert type(choose_head(net, (head, PooledLinear))) is PooledLinear


def test_a_network_whose_features_are_transposed_gives_no_exact_map():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = timm.create_model("test_efficientnet", num_classes=3)

        def get_classifier(self):
            return self.net.classifier

        def forward_features(self, x):
            return self.net.forward_features(x).transpose(2, 3)

        def forward_head(self, A):
            return self.net.forward_head(A)

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    assert choose_head(Turned()) is None
    # the layer before the turn lies as the picture does
    assert explain(Turned(), pictures(1, (96, 128))).method == "gradcam at net.bn2"


def test_maximum_pooling_is_not_taken_for_mean_pooling():
    net, x = calibrated("resnet18", global_pool="max"), pictures(1, (96, 128))
    result = explain(net, x)
    assert (result.exact, result.kind) == (False, "gradient")
    with pytest.raises(ValueError, match="no 'additive' evidence"):
        explain(net, x, kind="additive")
    assert_agree(net, "layer4", pictures(2, (96, 128)))


def hooks(module):
    return len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)


def state(net):
    "All that a forward or backward pass could change"
    return (
        [(m.training, hooks(m)) for m in net.modules()],
        [(p.requires_grad, p.grad is None) for p in net.parameters()],
        [t.tolist() for t in net.state_dict().values()],
        torch.get_rng_state().tolist(),
    )


WAYS = [
    {},
    {"kind": "gradient"},
    {"method": "gradcam++"},
    {"method": "eigencam"},
    {"layer": "blocks.3"},
    {"method": "ablationcam", "classes": [0]},
]


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("mode", ["eval", "train", "mixed"])
def test_the_network_is_left_as_it_was(how, mode):
    net = timm.create_model("test_efficientnet", num_classes=2).train(mode != "eval")
    if mode == "mixed":
        net.blocks[1].eval()
    net.conv_stem.requires_grad_(False)
    net.bn1.register_forward_hook(lambda *a: None)
    x = pictures(1, (64, 96))
    before = state(net)
    first, second = explain(net, x, **how), explain(net, x, **how)
    generate_gradcam(net, x, 1)
    assert state(net) == before
    assert torch.equal(first.evidence, second.evidence)
    in_eval = explain(copy.deepcopy(net).eval(), x, **how)
    assert torch.allclose(first.evidence, in_eval.evidence, atol=1e-6)


def test_frozen_under_no_grad_and_inference_mode():
    net, x = calibrated("test_convnext").requires_grad_(False), pictures(1, (96, 128))
    expected = {kind: explain(net, x, kind=kind).evidence for kind in ("additive", "gradient")}
    fresh = copy.deepcopy(net)
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            for kind, evidence in expected.items():
                for input_ in (x, x + 0):  # the second is an inference tensor under inference mode
                    again = explain(fresh, input_, kind=kind).evidence
                    assert torch.equal(again, evidence) and not again.is_inference()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_threads_get_what_one_gets(mode):
    net, x = calibrated("test_efficientnet").train(mode == "train"), pictures(6, (64, 96))
    questions = {}, {"kind": "gradient"}, {"layer": "bn2"}

    def ask(net, i):
        return torch.stack([explain(net, x[i : i + 1], **how).evidence for how in questions])

    alone = [ask(net, i) for i in range(6)]
    other = copy.deepcopy(net)  # not proved yet: the threads race for the proof as well
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda i: ask(other, i % 6), range(18)))
    for i, maps in enumerate(together):
        assert torch.allclose(maps, alone[i % 6], atol=1e-6)


def test_batch_and_single_agree():
    net, x = calibrated("efficientnet_b0"), pictures(4, (96, 128))
    for how in ({}, {"layer": "blocks.5"}):
        batch = explain(net, x, **how).evidence
        single = torch.cat([explain(net, x[i : i + 1], **how).evidence for i in range(4)])
        assert (batch - single).abs().max() < 1e-4 * batch.abs().max()


def test_a_shift_of_all_head_rows_changes_raw_maps_only():
    for name in ("resnet18", "convnext_atto"):
        net, x = calibrated(name), pictures(2, (96, 128))
        shifted = copy.deepcopy(net)
        head = shifted.get_classifier()
        with torch.no_grad():
            head.weight += torch.randn(head.in_features)
        a, b = explain(net, x), explain(shifted, x)
        assert torch.allclose(a.probs, b.probs, atol=1e-4)
        assert torch.allclose(a.centred, b.centred, atol=1e-4)
        assert (a.evidence - b.evidence).abs().max() > 0.1 * a.evidence.abs().max()


@pytest.mark.parametrize("how", [{}, {"kind": "gradient"}, {"layer": "bn2"}], ids=str)
def test_a_single_logit_is_two_classes(how):
    net, x = calibrated("test_efficientnet", classes=1), pictures(2, (96, 128))
    result = explain(net, x, **how)
    assert result.evidence.shape[1] == 2 and torch.equal(
        result.evidence[:, 0], -result.evidence[:, 1]
    )
    assert torch.allclose(result.probs[:, 1], net(x).sigmoid()[:, 0], atol=1e-5)
    sums = result.evidence.sum((2, 3))[:, 1] + net.classifier.bias / 2
    assert torch.allclose(sums, result.logits[:, 1], atol=1e-4)


def test_half_precision_gives_float32_maps_close_to_those_of_float32():
    net, x = calibrated("test_efficientnet"), pictures(1, (96, 128))
    full = explain(net, x).evidence
    half = explain(copy.deepcopy(net).bfloat16(), x)
    assert half.evidence.dtype == torch.float32 and half.exact
    assert (half.evidence - full).abs().max() < 0.1 * full.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = explain(net, x)
    assert mixed.evidence.dtype == torch.float32
    sums = mixed.evidence.sum((2, 3)) + net.classifier.bias
    assert torch.allclose(sums, mixed.logits, rtol=0.02, atol=0.05)
    assert (
        explain(copy.deepcopy(net).bfloat16(), x, layer="blocks.2").evidence.dtype == torch.float32
    )


def test_tuple_outputs():
    class WithAuxiliary(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x), "auxiliary"

    class HeadWithAuxiliary(type(calibrated("test_efficientnet"))):
        def forward_head(self, A):
            return super().forward_head(A), "auxiliary"

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    net, x = calibrated("test_efficientnet"), pictures(1, (96, 128))
    expected = explain(net, x)
    wrapped = explain(WithAuxiliary(net), x, layer="net.bn2")
    assert torch.allclose(wrapped.evidence, expected.evidence, atol=1e-5)
    other = copy.deepcopy(net)
    other.__class__ = HeadWithAuxiliary
    assert torch.equal(explain(other, x).evidence, expected.evidence) and explain(other, x).exact


def test_proof_is_kept_per_network_and_forgotten_with_it():
    net = timm.create_model("test_efficientnet", num_classes=3)
    assert find_head(net) is find_head(net)
    gc.collect()
    alive, known = weakref.ref(net), len(heads._PROVED)
    del net
    gc.collect()
    assert alive() is None and len(heads._PROVED) == known - 1


def test_evidence_maps_in_training_reach_features_and_head():
    net = timm.create_model("test_efficientnet", num_classes=3, drop_rate=0.5).train()
    x = pictures(4, (96, 128))
    A = net.forward_features(x)
    E = evidence_maps(net, A)
    assert net.training and torch.allclose(
        E.sum((2, 3)), A.mean((2, 3)) @ net.classifier.weight.T, atol=1e-4
    )
    E.square().sum().backward()
    assert net.conv_stem.weight.grad.abs().max() > 0 and net.classifier.weight.grad.abs().max() > 0
    by_hand = torch.einsum("ck,bkij->bcij", net.classifier.weight, A.detach()) / A[0, 0].numel()
    assert torch.allclose(E, by_hand, atol=1e-5)
    convnext = timm.create_model("test_convnext", num_classes=3).train()
    evidence_maps(convnext, convnext.forward_features(x)).square().sum().backward()
    assert convnext.head.norm.weight.grad.abs().max() > 0


def test_checkpoint_like_objects_bring_their_temperature():
    net, x = calibrated("test_efficientnet"), pictures(2, (96, 128))
    result = explain(SimpleNamespace(net=net, temperature=2.5), x)
    assert torch.allclose(result.probs, (net(x) / 2.5).softmax(1), atol=1e-5)
    warm = generate_gradcam(SimpleNamespace(net=net, temperature=2.5), x[:1], 0)
    assert np.array_equal(warm, generate_gradcam(net, x[:1], 0))
