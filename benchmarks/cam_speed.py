"""How fast are maps? Every way in one run on one machine, so that the ratios mean something.

    python benchmarks/cam_speed.py --images 64 --batch 32 --threads 2

Each way ends with maps at the input's size. pytorch-grad-cam makes one class's map where nothing else is
said; `explain` makes those of all classes.
"""
import argparse
import platform
import time
import warnings

import cv2
import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from xray_explain.cam import explain, positive_heatmap


def arguments():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--images", type=int, default=64, help="images per way and round (default 64)")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch (default 32)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (default 3)")
    parser.add_argument("--size", type=int, default=224, help="height and width of an image (default 224)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads")
    parser.add_argument("--architecture", default="efficientnet_b0")
    parser.add_argument("--layer", default="bn2", help="pytorch-grad-cam's layer (default bn2)")
    return parser.parse_args()


def predict(net, x):
    with torch.inference_mode(): return net(x).softmax(1)


def original(net, layer, x):
    "A prediction pass, then a new object for the predicted class"
    targets = [ClassifierOutputTarget(int(c)) for c in predict(net, x).argmax(1)]
    with GradCAM(net, [layer]) as cam: return cam(x, targets)


def one_object(cam, x, classes=(0,)):
    "An object made once; the class is taken as known"
    return [cam(x, [ClassifierOutputTarget(c)] * len(x)) for c in classes]


def exact(net, x):
    "Probabilities and every class's map, enlarged one by one"
    result = explain(net, x)
    maps = positive_heatmap(result.evidence.flatten(0, 1))
    return result.probs, np.stack([cv2.resize(m, tuple(x.shape[:1:-1])) for m in maps])


def ways(net, fast, theirs, layer, batch):
    "Name, batch size, what to call with a batch"
    cam = GradCAM(theirs, [layer])  # its hooks stay, so the other ways get a network of their own
    classes = range(net.get_classifier().out_features)
    return [
        ("original's way: prediction, then a new GradCAM object", 1, lambda x: original(theirs, layer, x)),
        ("prediction only", batch, lambda x: predict(net, x)),
        ("pytorch-grad-cam, one object, one class", 1, lambda x: one_object(cam, x)),
        ("pytorch-grad-cam, one object, one class", batch, lambda x: one_object(cam, x)),
        ("pytorch-grad-cam, one object, all classes", batch, lambda x: one_object(cam, x, classes)),
        ("explain, all classes", 1, lambda x: exact(net, x)),
        ("explain, all classes", batch, lambda x: exact(net, x)),
        ("explain, all classes, channels_last", batch,
         lambda x: exact(fast, x.contiguous(memory_format=torch.channels_last))),
    ]


def seconds(call, x, batch):
    start = time.perf_counter()
    for part in x.split(batch): call(part)
    return time.perf_counter() - start


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    net, fast, theirs = (timm.create_model(args.architecture, num_classes=3).eval() for _ in range(3))
    fast = fast.to(memory_format=torch.channels_last)
    x = torch.randn(args.images, 3, args.size, args.size)
    table = ways(net, fast, theirs, theirs.get_submodule(args.layer), args.batch)
    for _, batch, call in table: call(x[:batch])  # the first call proves the head and warms the caches
    taken = [[seconds(call, x, batch) for _, batch, call in table] for _ in range(args.rounds)]
    rate = args.images / np.median(taken, axis=0)
    machine = f"{args.threads} threads, {platform.machine()}, torch {torch.__version__}"
    print(f"{args.architecture} {args.size} x {args.size}, {machine}\n")
    print("| way | batch | images/s | ratio |\n|---|---:|---:|---:|")
    for (name, batch, _), r in zip(table, rate):
        print(f"| {name} | {batch} | {r:.1f} | {r / rate[0]:.2f} |")


if __name__ == "__main__": main()
