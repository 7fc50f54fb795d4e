"""What the compiled network gains, and beside other libraries: every way in turn, ratios of pairs from the same round.

    python benchmarks/compiled_speed.py --networks efficientnet_b0 --batch 16 --others
    python benchmarks/compiled_speed.py --networks fractures resnet18 convnext_atto --rounds 7

Each round goes through all ways once with the same pictures; a ratio is that of two ways in one round, and its median
counts. Seconds are the processor's, of all threads of this process: on one thread and an idle machine those of the clock,
and beside other loads still nearly the same. Ours give every class's evidence with the logits; a plain pass
gives logits only. The others get their best way: objects made once, all classes from one forward pass where they can.
A network is one of timm's with random weights, or the name of a model that comes with the package.
A fresh process gives the memory of a plain pass back to the system and takes it again page by page, which costs a third of
the pass; other libraries' objects may end that (--others), and so does MALLOC_TRIM_THRESHOLD_=8589934592
MALLOC_MMAP_THRESHOLD_=4294967295 MALLOC_TOP_PAD_=268435456 before the command. Say which you measured.
torch-cam and Captum take part where they are installed: pip install 'xray_explain[benchmarks]'.
"""

import argparse
import copy
import os
import platform
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import torch
from cam_speed import captum, installed, one_object, original, predict, torch_cam
from pytorch_grad_cam import GradCAM

from xray_explain.evidence.cam import explain
from xray_explain.evidence.heatmap import positive_heatmap
from xray_explain.infer.network import Network, quick_net
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint
from xray_explain.model.networks.compiled import NotCompiled, compiled, probe_pictures
from xray_explain.model.networks.graph import openvino
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.shipped import MODELS


def arguments():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=raw)
    parser.add_argument("--networks", nargs="+", default=["efficientnet_b0"], metavar="NAME")
    parser.add_argument("--batch", type=int, default=16, help="pictures (default 16)")
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch's and OpenVINO's (default 1)")
    parser.add_argument("--others", action="store_true", help="beside other libraries")
    parser.add_argument("--layer", default="bn2", help="that the others ask (default bn2)")
    return parser.parse_args()


def checkpoint_of(name: str) -> Checkpoint:
    if name in MODELS:
        return load_checkpoint(MODELS[name])
    torch.manual_seed(0)
    net = build_net(name, 3).eval().requires_grad_(False)
    return Checkpoint(net, name, ("Normal", "Benign", "Malignant"), Preprocessing())


def enlarged(explanation, size):
    "Maps of all classes at the pictures' size, as the others give them"
    maps = positive_heatmap(explanation.evidence.flatten(0, 1))
    return [cv2.resize(m, size[::-1]) for m in maps]


def ours(model, canvases):
    "What to call, by name"
    x = model.preprocessing.normalise(canvases)
    size = model.preprocessing.size
    folded = replace(model, net=quick_net(model.net, torch.device("cpu"), torch.float32))
    ways = {
        "plain pass": lambda: predict(model.net, x),
        "explain": lambda: explain(model, x),
        "explain, folded": lambda: explain(folded, x),
        "explain, folded, one by one, as a small run does": partial(Network(model), canvases),
    }
    for precision in ("fp32", "bf16"):
        quick = compiled(model, precision)
        ways[f"compiled, {precision}"] = partial(quick, canvases)
        ways[f"compiled, {precision}, enlarged"] = lambda q=quick: enlarged(q(canvases), size)
        ways[f"compiled, {precision}, a single picture"] = partial(quick, canvases[:1])
    return ways


def others(model, canvases, layer):
    "Maps of all classes by other libraries, on networks of their own, as some leave hooks behind"
    x, classes = model.preprocessing.normalise(canvases), range(len(model.class_names))
    nets = [copy.deepcopy(model.net).requires_grad_(True) for _ in range(4)]
    module = [net.get_submodule(layer) for net in nets]
    cam = GradCAM(nets[0], [module[0]])

    def each_alone():
        return [original(nets[3], module[3], x[i : i + 1]) for i in range(len(x))]

    ways = {
        "original's way, one class": each_alone,
        "pytorch-grad-cam": lambda: one_object(cam, x, classes),
    }
    if installed("torchcam"):
        ways["torch-cam"] = lambda: torch_cam(nets[1], layer, x.clone(), classes)
    if installed("captum"):
        ways["Captum and a prediction"] = lambda: captum(nets[2], module[2], x, classes)
    return ways


def seconds(call) -> float:
    "Of the processor"
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(ways, rounds):
    "Seconds (rounds, ways), after one call of each"
    for call in ways.values():
        call()
    return np.array([[seconds(call) for call in ways.values()] for _ in range(rounds)])


def table(name, ways, taken, batch):
    "One row for each way: pictures a second, and the medians of ratios to the ways named"
    names = list(ways)
    against = [n for n in ("plain pass", "original's way, one class") if n in names]
    print(f"| {name} | pictures/s of one core | {' | '.join(f'to the {n}' for n in against)} |")
    print("|---|---:|" + "---:|" * len(against))
    for i, way in enumerate(names):
        count = 1 if way.endswith("single picture") else batch
        share = count / batch
        ratios = [np.median(taken[:, names.index(n)] * share / taken[:, i]) for n in against]
        figures = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {way} | {count / np.median(taken[:, i]):.1f} | {figures} |")
    print()


def main():
    args = arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    version = openvino().__version__.partition("-")[0]
    print(
        f"batches of {args.batch}, {args.threads} thread(s), {args.rounds} rounds, "
        f"{platform.machine()}, torch {torch.__version__}, OpenVINO {version}, "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
    )
    with tempfile.TemporaryDirectory() as home:
        os.environ["XRAY_EXPLAIN_CACHE"] = home
        for name in args.networks:
            model = checkpoint_of(name)
            canvases = np.tile(
                probe_pictures(model.preprocessing.size), (-(-args.batch // 4), 1, 1)
            )
            canvases = canvases[: args.batch]
            try:
                cold = seconds(lambda: compiled(model))
            except NotCompiled as e:
                print(f"{name}: stays as it is, {e}\n")
                continue
            warm = seconds(lambda: compiled(replace(model, net=copy.deepcopy(model.net))))
            ways = ours(model, canvases)
            if args.others:
                ways |= others(model, canvases, args.layer)
            table(name, ways, measure(ways, args.rounds), args.batch)
            print(
                f"converted, compiled and proved in {cold:.1f} s, from the cache in {warm:.1f} s; "
                f"off by at most {max(compiled(model).differences):.0e}\n"
            )


if __name__ == "__main__":
    main()
