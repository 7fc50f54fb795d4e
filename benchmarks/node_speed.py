"""What a DICOM node gets through, against a folder of the same films with the same objects, in the same run.

    python benchmarks/node_speed.py --images 200 --size 1500 1200

Films come by C-STORE over as many associations as asked for, and the objects go by C-STORE to an archive that keeps nothing: DCMTK's storescu and
storescp where they are installed (apt install dcmtk), else processes of pynetdicom. Both run on this machine and take processor time of the
node's, which a clinic's archive would not. The folder's run writes the objects beside its records and sends nothing. Medians
over the rounds, which alternate. Two cores of an AMD EPYC, shared with other work, gave: see nbs/7_infer/5_dicom/9_network/05_node.ipynb.
"""

import argparse
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import pydicom
import torch
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from xray_explain.infer.dicom.network.node import OUTBOX, Listening, node_sources, serve_node
from xray_explain.infer.dicom.network.peers import Peer
from xray_explain.infer.dicom.statement import KINDS
from xray_explain.infer.folder import LocalEngine, Options, run, run_note
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=200, help="films (default 200)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(1500, 1200), help="rows, columns (1500 1200)"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="DICOM objects (default: all)")
    parser.add_argument("--associations", type=int, default=4, help="at a time (default 4)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="(default: cores)")
    parser.add_argument("--rounds", type=int, default=3, help="of both (default 3)")
    parser.add_argument("--architecture", default="efficientnet_b0", help="(efficientnet_b0)")
    return parser.parse_args()


def make(folder: Path, images: int, rows: int, columns: int):
    "A bone in noise, another for every film"
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    bone = np.exp(-(((x - columns * 0.4 - y / 12) / (columns / 9)) ** 2))
    noise = np.random.default_rng(0).normal(0, 25, bone.shape)
    base = (4095 * (1 - 0.8 * bone) - 200 + noise).clip(0, 4095).astype(np.uint16)
    for number in range(images):
        ds, file = pydicom.Dataset(), BytesIO()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "DX"
        ds.PatientName, ds.PatientID, ds.InstanceNumber = "Nobody^At all", "0", number + 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PhotometricInterpretation, ds.PixelSpacing = "MONOCHROME1", [0.14, 0.14]
        ds.WindowCenter, ds.WindowWidth = 2048, 4096
        ds.PixelData = np.roll(base, 37 * number, 0).tobytes()
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
        (folder / f"film{number:05}.dcm").write_bytes(file.getvalue())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def archive():
    "Take everything and keep nothing; gives the port"
    if not shutil.which("storescp"):
        ready: multiprocessing.Queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=archive_process, args=(ready,), daemon=True)
        process.start()
        yield ready.get()
        return process.terminate()
    port = free_port()
    scp = subprocess.Popen(["storescp", "--ignore", "+xa", "-aet", "ARCHIVE", str(port)])
    time.sleep(1)
    try:
        yield port
    finally:
        scp.terminate()


def archive_process(ready):
    "The same by pynetdicom"
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

    ae = AE("ARCHIVE")
    ae.maximum_pdu_size = 2**20
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    handlers = [(evt.EVT_C_STORE, lambda event: 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    ready.put(server.server_address[1])
    threading.Event().wait()


def sender(port: int, paths: list[Path], begun):
    "A process that sends films over one association"
    if shutil.which("storescu"):
        begun.put(time.time())
        who = ["-aet", "SENDER", "-aec", "NODE", "127.0.0.1", str(port)]
        return subprocess.run(["storescu", *who, *map(str, paths)], check=True)
    from pynetdicom import AE

    ae = AE("SENDER")
    ae.maximum_pdu_size = 2**20
    ae.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="NODE")
    begun.put(time.time())
    for path in paths:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    association.release()


def through_node(checkpoint, paths, out: Path, options: Options, args, peer: Peer) -> float:
    "Seconds from the first film on its way to the last object taken"
    sources = node_sources()
    run = checkpoint, sources, out / OUTBOX, options
    stages = LocalEngine(*run, workers=args.workers)
    begun: multiprocessing.Queue = multiprocessing.Queue()
    ends: list[float] = []

    def watch(node, port):
        parts = [paths[i :: args.associations] for i in range(args.associations)]
        processes = [
            multiprocessing.Process(target=sender, args=(port, part, begun), daemon=True)
            for part in parts
            if part
        ]
        for process in processes:
            process.start()

        def wait():
            while node.delivery.sent + node.delivery.refused < len(paths) * len(options.kinds):
                time.sleep(0.02)
            ends.append(time.time())
            node.ending.set()

        threading.Thread(target=wait, daemon=True).start()

    listening = Listening("NODE", ("SENDER",), 0)
    note = run_note(checkpoint, sources, options)
    serve_node(stages, note, listening, peer, out, 16, checkpoint.class_names, watch)
    return ends[0] - begun.get()


def main():
    args = arguments()
    multiprocessing.set_start_method("spawn")
    torch.manual_seed(0)
    net = build_net(args.architecture, 3).eval().requires_grad_(False)
    names = ("Normal", "Benign", "Malignant")
    preprocessing = Preprocessing((224, 224), reading="reduced")
    checkpoint = Checkpoint(
        net,
        args.architecture,
        names,
        preprocessing,
        localization={"local_logit": {"threshold": 0.1}},
    )
    options = Options(overlay_format="none", dicom_out=args.kinds)
    rates: dict[str, list[float]] = {"folder": [], "node": []}
    with archive() as port, tempfile.TemporaryDirectory() as home:
        peer = Peer("127.0.0.1", port, "ARCHIVE")
        films = Path(home) / "in"
        films.mkdir()
        make(films, args.images, *args.size)
        paths = sorted(films.iterdir())
        for number in range(args.rounds):
            sources, count = from_folder(films)
            out, start = Path(home) / f"folder{number}", time.time()
            run(
                *(checkpoint, sources, count, out, options),
                workers=args.workers,
                progress=False,
            )
            rates["folder"].append(count / (time.time() - start))
            seconds = through_node(
                checkpoint, paths, Path(home) / f"node{number}", options, args, peer
            )
            rates["node"].append(count / seconds)
    print(
        f"{args.images} films of {args.size[0]} x {args.size[1]}, {args.kinds}, {args.workers} "
        f"workers, {args.associations} associations\n\n| way | films a second | ratio |\n|---|---|---|"
    )
    for name, measured in rates.items():
        print(
            f"| {name} | {median(measured):.2f} | {median(measured) / median(rates['folder']):.2f} |"
        )


if __name__ == "__main__":
    main()
