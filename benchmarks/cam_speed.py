"""How fast are maps, and what memory do they take? Every way in one run on one machine, so that ratios mean something.

    python benchmarks/cam_speed.py --images 64 --batch 32 --threads 2
    python benchmarks/cam_speed.py --device cuda --batch 256 --images 1024

Each way ends with maps at the input's size, but the row that says "not enlarged". The others make one class's map where nothing else is said; `explain` makes
those of all classes. Two ratios: against the original's way, and against a plain forward pass of the same batch.
torch-cam and Captum take part where they are installed: pip install 'xray_explain[benchmarks]'.
"""

import argparse
import copy
import platform
import threading
import time
import warnings

import cv2
import numpy as np
import psutil
import timm
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from xray_explain.evidence.cam import explain
from xray_explain.evidence.heatmap import positive_heatmap
from xray_explain.model.networks.folding import folded


def arguments():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=raw)
    parser.add_argument(
        "--images", type=int, default=64, help="images per way and round (default 64)"
    )
    parser.add_argument("--batch", type=int, default=32, help="images in a batch (default 32)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds; the median counts (default 3)"
    )
    parser.add_argument(
        "--size", type=int, default=224, help="height and width of an image (default 224)"
    )
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="torch's threads"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--architecture", default="efficientnet_b0")
    parser.add_argument("--layer", default="bn2", help="the others' layer (default bn2)")
    parser.add_argument("--only-ours", action="store_true", help="leave the other libraries out")
    return parser.parse_args()


def predict(net, x):
    with torch.inference_mode():
        return net(x.to(next(net.parameters()).dtype)).float().softmax(1).cpu()


def original(net, layer, x):
    "A prediction pass, then a new object for the predicted class"
    targets = [ClassifierOutputTarget(int(c)) for c in predict(net, x).argmax(1)]
    with GradCAM(net, [layer]) as cam:
        return cam(x, targets)


def one_object(cam, x, classes=(0,)):
    "An object made once; the class is taken as known"
    return [cam(x, [ClassifierOutputTarget(c)] * len(x)) for c in classes]


def exact(net, x):
    "Probabilities and every class's map at the input's size, enlarged where the network is"
    result = explain(net, x)
    if x.device.type != "cpu":
        maps = F.interpolate(result.evidence.clamp_min(0), x.shape[2:], mode="bilinear")
        return result.probs.cpu(), maps.half().cpu()
    maps = positive_heatmap(result.evidence.flatten(0, 1))
    return result.probs, np.stack([cv2.resize(m, tuple(x.shape[:1:-1])) for m in maps])


def grids(net, x):
    "Probabilities and every class's map as the network has it, which is what a run over a folder asks for"
    result = explain(net, x)
    return result.probs.cpu(), result.evidence.cpu()


def last(x):
    return x.contiguous(memory_format=torch.channels_last)


def torch_cam(net, layer, x, classes):
    "Its classes share one forward pass"
    from torchcam.methods import GradCAM as Theirs

    maps = []
    with Theirs(net, target_layer=layer) as extractor:
        scores = net(x.requires_grad_())
        for c in classes:
            grids = extractor([c] * len(x), scores, retain_graph=c != classes[-1])[0]
            maps.append(F.interpolate(grids[:, None], x.shape[2:], mode="bilinear").detach().cpu())
    return maps


def captum(net, module, x, classes):
    from captum.attr import LayerAttribution, LayerGradCam

    probs, method = predict(net, x), LayerGradCam(net, module)
    grids = (method.attribute(x, target=c, relu_attributions=True).detach() for c in classes)
    return probs, [
        LayerAttribution.interpolate(g, tuple(x.shape[2:]), "bilinear").cpu() for g in grids
    ]


def installed(name):
    try:
        return bool(__import__(name))
    except ImportError:
        return False


def ours(net, batch):
    "Name, batch size, what to call with a batch, name of the plain pass of the same batch"
    fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
    half = copy.deepcopy(fast).bfloat16()
    quick = folded(net).to(memory_format=torch.channels_last)
    quick_half = copy.deepcopy(quick).bfloat16()
    rows = []
    for b in sorted({1, batch}):
        rows += [
            (f"prediction only ({b})", b, lambda x: predict(net, x)),
            ("prediction only, channels_last", b, lambda x: predict(fast, last(x))),
            ("prediction only, channels_last, bf16", b, lambda x: predict(half, last(x))),
            ("explain, all classes", b, lambda x: exact(net, x)),
            ("explain, all classes, channels_last", b, lambda x: exact(fast, last(x))),
            ("explain, all classes, channels_last, bf16", b, lambda x: exact(half, last(x))),
            (
                "explain, all classes, not enlarged, channels_last, bf16",
                b,
                lambda x: grids(half, last(x)),
            ),
            (
                "explain, all classes, channels_last, norms folded",
                b,
                lambda x: exact(quick, last(x)),
            ),
            (
                "explain, all classes, channels_last, norms folded, bf16",
                b,
                lambda x: exact(quick_half, last(x)),
            ),
            (
                "explain, all classes, not enlarged, channels_last, norms folded, bf16",
                b,
                lambda x: grids(quick_half, last(x)),
            ),
        ]
    return rows


def others(net, layer, batch):
    "The same of other libraries, on networks of their own, because some leave hooks behind"
    theirs, classes = (
        [copy.deepcopy(net) for _ in range(3)],
        range(net.get_classifier().out_features),
    )
    module = [n.get_submodule(layer) for n in theirs]
    cam = GradCAM(theirs[0], [module[0]])
    rows = [
        (
            "original's way: prediction, then a new GradCAM object",
            1,
            lambda x: original(theirs[0], module[0], x),
        ),
        ("pytorch-grad-cam, one object, one class", 1, lambda x: one_object(cam, x)),
        ("pytorch-grad-cam, one object, one class", batch, lambda x: one_object(cam, x)),
        ("pytorch-grad-cam, one object, all classes", batch, lambda x: one_object(cam, x, classes)),
    ]
    if installed("torchcam"):
        rows += [
            (f"torch-cam, {what}", batch, lambda x, c=c: torch_cam(theirs[1], layer, x.clone(), c))
            for what, c in (("one class", [0]), ("all classes", classes))
        ]
    if installed("captum"):
        rows += [
            (
                f"Captum and a prediction, {what}",
                batch,
                lambda x, c=c: captum(theirs[2], module[2], x, c),
            )
            for what, c in (("one class", [0]), ("all classes", classes))
        ]
    return rows


def seconds(call, x, batch):
    start = time.perf_counter()
    for part in x.split(batch):
        call(part)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory(call, x):
    "Mebibytes that one call needs on top of what was there"
    if x.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(x)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    process, over = psutil.Process(), threading.Event()
    before = top = process.memory_info().rss

    def watch():
        nonlocal top
        while not over.wait(0.002):
            top = max(top, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    call(x)
    over.set()
    watcher.join()
    return (top - before) / 2**20


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    net = timm.create_model(args.architecture, num_classes=3).eval().to(args.device)
    x = torch.randn(args.images, 3, args.size, args.size, device=args.device)
    table = ours(net, args.batch) + ([] if args.only_ours else others(net, args.layer, args.batch))
    # the first call proves the head and warms the caches; what it takes from the system is what the way needs
    needed = [memory(call, x[:batch]) for _, batch, call in table]
    taken = [
        [
            seconds(call, x[: max(batch, args.images // (4 if batch == 1 else 1))], batch)
            for _, batch, call in table
        ]
        for _ in range(args.rounds)
    ]
    counts = np.array([max(b, args.images // (4 if b == 1 else 1)) for _, b, _ in table])
    rate = np.minimum(counts, args.images) / np.median(taken, axis=0)
    plain = {b: r for (name, b, _), r in zip(table, rate) if name.startswith("prediction only (")}
    first = next(
        (r for (name, *_), r in zip(table, rate) if name.startswith("original")), float("nan")
    )
    print(
        f"{args.architecture} {args.size} x {args.size}, {args.device}, {args.threads} threads, {platform.machine()}, torch {torch.__version__}\n"
    )
    print(
        "| way | batch | images/s | to the original's way | to a plain pass | MiB |\n|---|---:|---:|---:|---:|---:|"
    )
    for (name, batch, _), r, mib in zip(table, rate, needed):
        print(
            f"| {name.split(' (')[0]} | {batch} | {r:.1f} | {r / first:.2f} | {r / plain[batch]:.2f} | {mib:.0f} |"
        )


if __name__ == "__main__":
    main()
