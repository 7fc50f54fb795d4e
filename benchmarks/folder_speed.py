"""From a folder of JPEGs to results: ours against the original's way, on the same files, and where the time goes.

    python benchmarks/folder_speed.py --images 300 --size 2000 1500

The original's way: Pillow in colour, CLAHE at full size in LAB, resize, a prediction pass, a new GradCAM object, an
overlay at the network's size as PNG by Pillow, results when all is done. Ours does the same work and makes every
class's evidence; a second row draws overlays at the pictures' own size. The stages are those of one picture on one
core; in a run they overlap.
"""

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from xray_explain.files import write_json
from xray_explain.infer.folder import Options, run
from xray_explain.infer.network import Network
from xray_explain.infer.record import (
    Drawing,
    NetworkInput,
    local_logits,
    overlay_file,
    record_of,
)
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=300, help="JPEGs (default 300)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(2000, 1500),
        help="width and height (default 2000 1500)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count(),
        help="processes that read and draw (default: cores)",
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="pictures in a forward pass (default 16)"
    )
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16 (default fp32)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--skip-original", action="store_true", help="only ours")
    return parser.parse_args()


def make(folder, images, size):
    "Smooth noise with an edge, about as large as a radiograph when compressed"
    rng = np.random.default_rng(0)
    base = cv2.resize(
        rng.random((size[1] // 8, size[0] // 8), np.float32), size, interpolation=cv2.INTER_CUBIC
    )
    base = cv2.GaussianBlur(base, (0, 0), 5) + 0.03 * rng.random(base.shape, np.float32)
    base = (255 * (base - base.min()) / np.ptp(base)).astype(np.uint8)
    for i in range(images):
        grey = np.roll(base, (37 * i, 91 * i), (0, 1))
        cv2.imwrite(str(folder / f"film{i:05}.jpg"), np.repeat(grey[..., None], 3, 2))


def original(net, path, out):
    "One picture the original's way"
    rgb = np.asarray(Image.open(path).convert("RGB"))
    light, a, b = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))
    light = cv2.createCLAHE(2.0, (8, 8)).apply(light)
    rgb = cv2.cvtColor(cv2.merge([light, a, b]), cv2.COLOR_LAB2RGB)
    small = cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    x = (torch.from_numpy(small).permute(2, 0, 1) - 0.45) / 0.225
    with torch.no_grad():
        p = net(x[None]).softmax(1)[0]
    with GradCAM(net, [net.bn2]) as cam:
        heat = cam(x[None], [ClassifierOutputTarget(int(p.argmax()))])[0]
    Image.fromarray(show_cam_on_image(small, heat, use_rgb=True)).save(
        out / f"{path.stem}_gradcam.png"
    )
    return {"image_name": path.name, "scores": p.tolist()}


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def stages(checkpoint, path, args):
    "Milliseconds of each stage for one picture"
    preprocessing, network = (
        checkpoint.preprocessing,
        Network(checkpoint, args.device, args.precision),
    )
    film = preprocessing.read(path)
    batch = np.stack([preprocessing.canvas(film)] * args.batch)
    output = network(batch)[0]
    seen = NetworkInput(batch[0], film.shape)
    drawing = Drawing(local_logits(output.centred, 0), preprocessing, None, "x")
    small = replace(drawing, side=224)
    steps = {
        "read": (lambda: preprocessing.read(path), 1),
        "contrast and size": (lambda: preprocessing.canvas(film), 1),
        "network and evidence": (lambda: network(batch), args.batch),
        "records": (lambda: record_of(checkpoint, "x", seen, output), 1),
        "overlay 224, PNG": (lambda: overlay_file(path, small), 1),
        "overlay full size, JPEG": (
            lambda: overlay_file(path, replace(drawing, overlay_format="jpeg")),
            1,
        ),
        "overlay full size, PNG": (lambda: overlay_file(path, drawing), 1),
    }
    return {
        name: 1000 * np.median([seconds(call) for _ in range(5)]) / n
        for name, (call, n) in steps.items()
    }


def main():
    args = arguments()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    net = build_net("efficientnet_b0", 3).eval()
    way = Preprocessing(fit="stretch", contrast="clahe", reading="reduced")
    checkpoint = Checkpoint(
        net.requires_grad_(False), "efficientnet_b0", ("Normal", "Benign", "Malignant"), way
    )
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "in"
        folder.mkdir()
        make(folder, args.images, tuple(args.size))
        paths, rates = sorted(folder.iterdir()), {}
        if not args.skip_original:
            theirs = build_net("efficientnet_b0", 3).eval()
            theirs.load_state_dict(net.state_dict())
            (Path(home) / "original").mkdir()
            whole = lambda: write_json(
                Path(home) / "original" / "r.json",
                [original(theirs, p, Path(home) / "original") for p in paths],
            )
            rates["original's way"] = args.images / seconds(whole)
        sources, count = from_folder(folder)
        for name, model, options in [
            (
                "ours, overlays of 224 px",
                checkpoint,
                Options(args.batch, args.precision, "png", 224),
            ),
            (
                "ours, full-size overlays as JPEG",
                checkpoint,
                Options(args.batch, args.precision, "jpeg"),
            ),
            ("ours, no overlays", checkpoint, Options(args.batch, args.precision, "none")),
            (
                "ours, overlays of 224 px, full reading",
                replace(checkpoint, preprocessing=replace(way, reading="full")),
                Options(args.batch, args.precision, "png", 224),
            ),
        ]:
            go = lambda: run(
                model,
                sources,
                count,
                Path(home) / name,
                options,
                workers=args.workers,
                device=args.device,
                progress=False,
            )
            rates[name] = args.images / seconds(go)
        print(
            f"{args.images} JPEGs of {args.size[0]} x {args.size[1]}, {args.workers} workers, {torch.get_num_threads()} threads of torch, "
            f"{args.device}, {args.precision}\n"
        )
        first = next(iter(rates.values()))
        print("| way | images/s | ratio |\n|---|---:|---:|")
        for name, rate in rates.items():
            print(f"| {name} | {rate:.2f} | {rate / first:.2f} |")
        print("\n| stage, one picture | ms |\n|---|---:|")
        for name, ms in stages(checkpoint, paths[0], args).items():
            print(f"| {name} | {ms:.1f} |")


if __name__ == "__main__":
    main()
