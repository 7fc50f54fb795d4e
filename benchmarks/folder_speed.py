"""From a folder of JPEGs to results: ours against the original's way, on the same files, and where the time goes.

    python benchmarks/folder_speed.py --images 300 --size 2000 1500

The original's way: Pillow in colour, CLAHE at full size in LAB, resize, a prediction pass, a new GradCAM object, an
overlay at the network's size as PNG by Pillow, results when all is done. Ours does the same work and makes every
class's evidence. The original's way is tried with one thread and with as many as PyTorch takes; the first row is what
the ratios are against. Other rows draw overlays at the pictures' own size, or read every pixel. All of them take turns, and
their ratios are medians over the turns, since a machine with two busy cores is never the same twice.

CPU: milliseconds of processor time a picture, of all processes, with their start. Needed: the part of it that decoding
the JPEG, resizing it and the network take when each of them is called alone; the rest is what could still be saved. The
stages are those of one picture on one core, in processor time; in a run they overlap.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
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

from xray_explain.draw.encoding import encoded
from xray_explain.files import write_json
from xray_explain.infer.folder import Options, run
from xray_explain.infer.network import Network, runtime_of_run
from xray_explain.infer.record import (
    Drawing,
    NetworkInput,
    carried_picture,
    draw_overlay,
    local_logits,
    record_of,
)
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing, enhance
from xray_explain.read.radiograph import read_radiograph
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
    parser.add_argument("--pairs", type=int, default=3, help="turns of all ways (default 3)")
    parser.add_argument(
        "--original",
        type=int,
        default=40,
        help="pictures that go the original's way in each turn (default 40; 0: none)",
    )
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


def processor():
    "Seconds that this process and those that have ended have computed"
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measured(call, pictures):
    "Milliseconds a picture, on the clock and of processor time"
    before, taken = processor(), seconds(call)
    return 1000 * taken / pictures, 1000 * (processor() - before) / pictures


def start_of_a_process():
    "Milliseconds until a process can read and draw"
    code = "import xray_explain.infer.record"
    return measured(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1)[1]


def decoded(path, preprocessing, shape):
    "The JPEG alone, in grey at the size that is enough"
    factor = preprocessing.reduction(shape)
    with Image.open(path) as picture:
        picture.draft("L", (picture.width // factor, picture.height // factor))
        return np.asarray(picture)


def stages(checkpoint, path, args, runtime):
    "Milliseconds of processor time of each stage for one picture"
    cv2.setNumThreads(1)  # as in the processes that read
    preprocessing = checkpoint.preprocessing
    network = Network(checkpoint, args.device, args.precision, runtime)
    film, whole = preprocessing.read(path), read_radiograph(path)
    batch = np.stack([preprocessing.canvas(film)] * args.batch)
    output, carried = network(batch)[0], carried_picture(film, 224)
    seen, small = NetworkInput(batch[0], film.shape), carried / np.float32(255)
    drawing = Drawing(local_logits(output.centred, 0), preprocessing, None, "Benign 0.700")
    little, large = (draw_overlay(pixels, drawing) for pixels in (small, whole.pixels))
    geometry, contrast = preprocessing.geometry(film.shape), preprocessing.contrast
    steps = {
        "decoding": (lambda: decoded(path, preprocessing, film.shape), 1),
        "reading, with decoding": (lambda: preprocessing.read(path), 1),
        "contrast": (lambda: enhance(film.pixels, contrast), 1),
        "resizing, for the network": (lambda: geometry.to_canvas(film.pixels), 1),
        "resizing, for the overlay": (lambda: carried_picture(film, 224), 1),
        "network and evidence": (lambda: network(batch), args.batch),
        "record": (lambda: record_of(checkpoint, "x", seen, output), 1),
        "drawing, 224 pixels": (lambda: draw_overlay(small, drawing), 1),
        "PNG, 224 pixels": (lambda: encoded(little), 1),
        "decoding whole, for a whole overlay": (lambda: read_radiograph(path), 1),
        "drawing, whole": (lambda: draw_overlay(whole.pixels, drawing), 1),
        "JPEG, whole": (lambda: encoded(large, "jpeg"), 1),
        "PNG, whole": (lambda: encoded(large), 1),
        "start of the processes": (start_of_a_process, args.images / max(args.workers, 1)),
    }
    return {
        name: min(measured(call, n)[1] for _ in range(5 if n < 100 else 2))
        for name, (call, n) in steps.items()
    }


def ways(checkpoint, args):
    "Name, model and options of each of ours"
    options = lambda form, side=0: Options(args.batch, args.precision, form, side)
    full = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, reading="full"))
    return {
        "ours, overlays of 224 px": (checkpoint, options("png", 224)),
        "ours, no overlays": (checkpoint, options("none")),
        "ours, whole overlays as JPEG": (checkpoint, options("jpeg")),
        "ours, whole overlays as PNG": (checkpoint, options("png")),
        "ours, overlays of 224 px, every pixel read": (full, options("png", 224)),
    }


def with_threads(number):
    "Those that wait for one another spin, which on busy cores costs several times what it saves"
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


def turn(home, checkpoint, args, number):
    "Milliseconds a picture of every way, (clock, processor)"
    paths, taken = sorted((home / "in").iterdir()), {}
    sources, count = from_folder(home / "in")
    usual = torch.get_num_threads()
    for threads in sorted({1, usual}) if args.original else ():
        some = paths[: args.original]
        out = home / f"original{number}_{threads}"
        out.mkdir()
        net = checkpoint.net
        whole = lambda: write_json(out / "r.json", [original(net, p, out) for p in some])
        with_threads(threads)
        name = "original's way, one thread" if threads == 1 else "original's way"
        taken[name] = measured(whole, len(some))
    with_threads(usual)
    for name, (model, options) in ways(checkpoint, args).items():
        out = home / f"{name} {number}"
        place = dict(workers=args.workers, device=args.device, progress=False)
        taken[name] = measured(lambda: run(model, sources, count, out, options, **place), count)
        shutil.rmtree(out)
    return taken


NEEDED = {  # of each way, among the stages
    "ours, overlays of 224 px": (
        "decoding",
        "resizing, for the network",
        "resizing, for the overlay",
    ),
    "ours, no overlays": ("decoding", "resizing, for the network"),
}


def print_ways(turns, alone):
    "Medians over the turns"
    first = next(iter(turns[0]))
    print("| way | pictures a second | against the first | CPU, ms a picture | needed |")
    print("|---|---:|---:|---:|---:|")
    for name in turns[0]:
        clock, cpu = np.median([t[name] for t in turns], 0)
        ratio = np.median([t[first][0] / t[name][0] for t in turns])
        needed = ""
        if name in NEEDED:
            least = sum(alone[stage] for stage in (*NEEDED[name], "network and evidence"))
            needed = f"{least:.1f} ms, {least / cpu:.2f}"
        print(f"| {name} | {1000 / clock:.1f} | {ratio:.1f} | {cpu:.1f} | {needed} |")


def main():
    args = arguments()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    net = build_net("efficientnet_b0", 3).eval()
    way = Preprocessing(fit="stretch", contrast="clahe", reading="reduced")
    checkpoint = Checkpoint(net, "efficientnet_b0", ("Normal", "Benign", "Malignant"), way)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        (home / "in").mkdir()
        make(home / "in", args.images, tuple(args.size))
        where = (args.device, args.precision)
        # a graph is compiled once and kept; that is no part of a folder's time
        runtime = runtime_of_run(checkpoint, args.images, "auto", where).name
        turns = [turn(home, checkpoint, args, number) for number in range(args.pairs)]
        path = sorted((home / "in").iterdir())[0]
        alone = stages(checkpoint, path, args, runtime)
    print(
        f"{args.images} JPEGs of {args.size[0]} x {args.size[1]}, {args.workers} workers, "
        f"{torch.get_num_threads()} threads, {args.device}, {args.precision}, {runtime}, "
        f"{args.pairs} turns, load {os.getloadavg()[0]:.1f}\n"
    )
    print_ways(turns, alone)
    print("\n| stage, one picture | ms of a processor |\n|---|---:|")
    for name, ms in alone.items():
        print(f"| {name} | {ms:.1f} |")


if __name__ == "__main__":
    main()
