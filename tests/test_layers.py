"""Layers: what is written over in place, used several times, or shows no places; and a broad list of networks."""

import contextlib
import copy
import io

import pytest
import timm
import torch
import torchvision
from torch import nn

from xray_explain.evidence.cam import explain
from xray_explain.evidence.head import find_head
from xray_explain.evidence.library import METHODS, default_layer

torch.set_num_threads(1)

OF_LIBRARY = {name for name, method in METHODS.items() if method.library}


class Small(nn.Module):
    "Convolution, norm, ReLU and a residual block, the ReLU one layer and in place"

    def __init__(self, inplace=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.relu = (
            nn.Conv2d(3, 5, 3, 2, 1),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace),
        )
        self.conv2, self.bn2 = nn.Conv2d(5, 5, 3, 2, 1), nn.BatchNorm2d(5)
        self.unused, self.fc = nn.Conv2d(5, 5, 1), nn.Linear(5, 3)

    def forward(self, x):
        x = self.relu(self.bn(self.conv(x)))
        y = self.bn2(self.conv2(x))
        if self.relu.inplace:
            y += nn.functional.avg_pool2d(x, 2)
        else:
            y = y + nn.functional.avg_pool2d(x, 2)
        return self.fc(self.relu(y).mean((2, 3)))


def alive(net, size):
    "In eval mode, with batch statistics of noise and no norm whose weights are zeros"
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    torch.manual_seed(0)
    for m in norms:
        m.momentum = None
        if not m.weight.any():
            nn.init.ones_(m.weight)
    with torch.no_grad():
        net.train()(torch.randn(4, 3, *size))
    return net.eval()


def plain(net):
    "The same network with nothing in place"
    net = copy.deepcopy(net)
    for m in net.modules():
        if hasattr(m, "inplace"):
            m.inplace = False
    return net


def assert_same_maps(net, reference, layer, x, methods):
    for method in methods:
        with contextlib.redirect_stderr(io.StringIO()):
            ours, theirs = (
                explain(n, x, method=method, layer=layer, classes=[1]).evidence[0, 0]
                for n in (net, reference)
            )
        assert theirs.std() > 0, method
        # the sign of a singular vector is free
        off = min((ours - theirs).abs().max(), (ours + theirs).abs().max())
        assert off <= 1e-5 * theirs.abs().max(), (layer, method)


@pytest.mark.parametrize("layer", ["conv", "bn", "bn2", "relu"])
def test_a_layer_that_is_written_over_has_the_map_of_a_network_that_works_on_copies(layer):
    net, x = alive(Small(), (32, 48)), torch.randn(1, 3, 32, 48)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert_same_maps(net, plain(net), layer, x, OF_LIBRARY)
    assert net.relu.inplace and not any(m._forward_hooks for m in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_grad_cam_before_an_in_place_operation_by_hand():
    net, x = alive(Small(), (32, 48)), torch.randn(1, 3, 32, 48)
    ref, kept = plain(net), []
    hook = ref.bn2.register_forward_hook(lambda module, given, out: kept.append(out))
    logit = ref(x)[0, 1]
    hook.remove()
    slope = torch.autograd.grad(logit, kept[0])[0]
    by_hand = (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].detach()
    assert torch.allclose(explain(net, x, layer="bn2").evidence[0, 1], by_hand, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net,layers",
    [
        (lambda: timm.create_model("vgg11", num_classes=3), ("features.0", "features.18")),
        (lambda: timm.create_model("resnet18", num_classes=3), ("bn1", "layer4.1.bn2")),
        (lambda: timm.create_model("mobilenetv2_050", num_classes=3), ("blocks.3.0.bn1.drop",)),
        (lambda: torchvision.models.densenet121(num_classes=3), ("features",)),
        (lambda: torchvision.models.resnet18(num_classes=3), ("bn1", "layer4.1.relu")),
        (lambda: torchvision.models.mobilenet_v2(num_classes=3), ("features.18.1",)),
    ],
)
def test_known_networks_have_the_maps_of_networks_that_work_on_copies(net, layers):
    torch.manual_seed(0)
    net, x = alive(net(), (64, 96)), torch.randn(1, 3, 64, 96)
    for layer in layers:
        assert_same_maps(net, plain(net), layer, x, OF_LIBRARY - {"scorecam", "ablationcam"})


def test_a_layer_that_is_used_twice_is_mapped_at_its_last_use_and_says_so():
    net, x = alive(Small(), (32, 48)), torch.randn(2, 3, 32, 48)
    result = explain(net, x, layer="relu")
    assert result.evidence.shape == (2, 3, 8, 12)  # the first use has 16 x 24
    assert result.note == "The layer relu is used 2 times in a pass: the map is of the last"
    # the last ReLU feeds mean pooling and a linear layer: additive, by hand
    kept = []
    net.relu.register_forward_hook(lambda module, given, out: kept.append(out))
    net(x)
    by_hand = torch.einsum("ck,bkhw->bchw", net.fc.weight, kept[1]) / 96
    assert torch.allclose(result.evidence, by_hand, atol=1e-6)
    assert explain(net, x, layer="bn2").note == ""


def test_a_layer_that_shows_no_places_is_refused_and_leaving_it_out_works():
    net, x = alive(Small(), (32, 48)), torch.randn(1, 3, 32, 48)
    for layer, problem in (("unused", "takes no part in the forward pass"), ("fc", "gives")):
        with pytest.raises(ValueError, match=f"layer {layer} {problem}.*; leave layer out or name"):
            explain(net, x, layer=layer)
    assert explain(net, x).method == "gradcam at relu"
    assert explain(net, x).note.startswith("The layer relu is used 2 times")
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=2, depths=(1, 1, 1, 1), embed_dim=24
    ).eval()
    x = torch.randn(1, 3, 224, 224)
    with pytest.raises(ValueError, match="gives .* for 5 pictures; leave layer out"):
        explain(swin, x, layer="layers.0.blocks.0.attn")  # windows in the batch
    assert explain(swin, x).exact


def test_tokens_in_an_order_of_their_own_are_refused():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.last = nn.Conv2d(3, 8, 16, 16), nn.Identity()
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).mT
            order = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(0))
            return self.fc(self.last(tokens[:, order]).mean(1))

    net, x = Shuffled().eval(), torch.randn(1, 3, 96, 128)
    with pytest.raises(ValueError, match="last has cells that do not lie as the picture does"):
        explain(net, x, layer="last")
    assert explain(net, x).method == "gradcam at patch"


def test_a_flat_map_and_one_of_a_single_cell_are_not_silent():
    vit, x = timm.create_model("test_vit", num_classes=3).eval(), torch.randn(1, 3, 96, 128)
    assert "The map is flat" in explain(vit, x, layer="blocks.5").note  # past the class token
    resnet = timm.create_model("test_resnet", num_classes=3).eval()
    assert "has one cell, which shows no place" in explain(resnet, torch.randn(1, 3, 32, 32)).note
    assert explain(resnet, torch.randn(1, 3, 64, 96)).note == ""


def test_a_network_that_works_on_its_input_or_its_features_in_place():
    class InPlace(type(timm.create_model("test_efficientnet"))):
        def forward_features(self, x):
            return super().forward_features(x.sub_(0.5))

        def forward_head(self, x):
            return super().forward_head(x.sub_(0.5))

    class Copying(InPlace):
        def forward_features(self, x):
            return super().forward_features(x.clone())

        def forward_head(self, x):
            return super().forward_head(x.clone())

    torch.manual_seed(0)
    net, x = (
        timm.create_model("test_efficientnet", num_classes=3).eval(),
        torch.randn(1, 3, 96, 128),
    )
    reference = copy.deepcopy(net)
    net.__class__, reference.__class__ = InPlace, Copying
    given = x.clone()
    for how in ({}, {"method": "occlusion"}, {"layer": "bn2"}, {"method": "layercam"}):
        ours, theirs = explain(net, x, **how), explain(reference, x, **how)
        assert torch.equal(x, given)
        assert torch.allclose(ours.logits, theirs.logits, atol=1e-6)
        assert torch.allclose(ours.evidence, theirs.evidence, atol=1e-6)


def test_wrapped_compiled_scripted_and_quantised_networks():
    torch.manual_seed(0)
    net, x = timm.create_model("test_resnet", num_classes=3).eval(), torch.randn(1, 3, 64, 96)
    expected = explain(net, x, layer="layer3").evidence
    for wrapped in (torch.compile(net), nn.DataParallel(net)):
        assert explain(wrapped, x).exact
        assert torch.equal(explain(wrapped, x, layer="layer3").evidence, expected)
    traced = torch.jit.trace(net, x)
    with pytest.raises(ValueError, match="TorchScript network hides its layers"):
        explain(traced, x, layer="layer3")
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    net.set_grad_checkpointing(True)  # runs layers anew in the backward pass
    assert torch.equal(explain(net, x, layer="layer3").evidence, expected)
    with pytest.raises(ValueError, match="before quantisation, or by method='occlusion'"):
        explain(quantised, x, layer="layer3")
    # what the messages advise
    for network in (traced, quantised):
        with pytest.raises(ValueError, match="method='occlusion' needs none"):
            explain(network, x)
        assert explain(network, x, method="occlusion").evidence.std() > 0
    with pytest.raises(ValueError, match="has no weights"):
        explain(copy.deepcopy(net).to("meta"), x)
    body = timm.create_model("test_resnet", features_only=True).eval()
    with pytest.raises(ValueError, match="no logits .B, C. of a classifier"):
        explain(body, x)


def random_classifier(net):
    "Some networks start with a classifier of zeros"
    layers = net.get_classifier()
    for layer in layers if isinstance(layers, (tuple, list)) else [layers]:
        for p in layer.parameters():
            nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.ndim > 1 else 1)
    return net.eval()


def assert_explained(name, again=False):
    "By exact evidence, or by a gradient with a real grid"
    torch.manual_seed(0)
    net = random_classifier(timm.create_model(name, num_classes=3))
    x = torch.randn(1, *net.pretrained_cfg["input_size"])
    result = explain(net, x)
    assert result.evidence.shape[2:].numel() > 1 and result.note == ""
    assert result.evidence.isfinite().all() and result.evidence.abs().amax((2, 3)).min() > 0
    if result.exact:
        sums = result.evidence.sum((2, 3)) + find_head(net).bias(net)
        assert torch.allclose(sums, result.logits, rtol=1e-3, atol=1e-3)
    elif again and (layer := default_layer(net, x)):
        # the layer that was chosen may be named as well
        named = explain(net, x, layer=layer, classes=[0])
        assert torch.allclose(named.evidence[:, 0], result.evidence[:, 0], rtol=1e-3, atol=1e-6)
    return result.method


@pytest.mark.parametrize(
    "name,method",
    [
        ("pit_ti_224", "gradcam at transformers.2.blocks.3.norm1"),  # hands over one class token
        ("mobilenetv3_small_050", "gradcam"),
        ("test_vit", "gradcam at blocks.5.norm1"),
        ("hrnet_w18_small", "gradcam"),  # whose `head` is a word
        ("tresnet_m", "gradcam"),  # whose first convolution takes 48 channels
    ],
)
def test_five_families_are_explained(name, method):
    assert assert_explained(name) == method


BROAD = """xcit_nano_12_p8_224 hrnet_w18_small_v2 cait_xxs24_224 volo_d1_224 crossvit_tiny_240 coat_tiny
convit_tiny
tnt_s_legacy_patch16_224 coat_lite_tiny mvitv2_tiny sequencer2d_s hiera_tiny_224 davit_tiny
focalnet_tiny_srf efficientvit_b0 efficientvit_m0 repvit_m0_9 mambaout_femto nextvit_small
rdnet_tiny cspresnet50 resnest14d dpn48b legacy_seresnet18 res2net50_14w_8s skresnet18 gernet_s
regnetx_002 ese_vovnet19b_dw hardcorenas_a mnasnet_small fbnetc_100 lcnet_050 tinynet_e
resmlp_12_224 gmlp_s16_224 mixer_s32_224 pit_ti_distilled_224 swin_s3_tiny_224 swiftformer_xs
vit_relpos_small_patch16_224 csatv2 shvit_s1 inception_v3 ghostnetv2_100 efficientformerv2_s0
mobileone_s0 bat_resnext26ts lambda_resnet26t botnet26t_256 convformer_s18 poolformer_s12
flexivit_small deit_tiny_distilled_patch16_224 eva02_tiny_patch14_224 levit_128s
twins_svt_small pvt_v2_b0 nest_tiny maxvit_rmlp_pico_rw_256 coatnet_0_rw_224 gcvit_xxtiny
edgenext_xx_small mobilevit_xxs fastvit_t8 hgnetv2_b0 dla34 vgg11 densenet121 mobilenetv2_050
mobilenetv3_small_050 visformer_tiny resnetv2_50 nf_resnet26 repghostnet_050 starnet_s1
tiny_vit_5m_224 swinv2_tiny_window8_256 convnext_atto efficientnet_b0 resnet18""".split()


@pytest.mark.slow
@pytest.mark.parametrize("name", BROAD)
def test_a_broad_list_of_networks_is_explained(name):
    assert_explained(name, again=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,method",
    [
        ("vit_b_16", "gradcam at encoder.layers.encoder_layer_11.ln_1"),
        ("swin_t", "gradcam at permute"),  # what the norm gives, channels first
        ("convnext_tiny", "gradcam at features"),
        ("densenet121", "gradcam at features"),
        ("resnet18", "gradcam at layer4"),
        ("googlenet", "gradcam at inception5b"),
        ("inception_v3", "gradcam at Mixed_7c"),
    ],
)
def test_torchvision_networks_are_explained_at_their_last_layer(name, method):
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    net = getattr(torchvision.models, name)(num_classes=3, **options).eval()
    side = 299 if name == "inception_v3" else 224
    result = explain(net, torch.randn(1, 3, side, side), classes=[0])
    assert result.method == method and result.evidence.shape[2:].numel() > 1
