"What a checker says of code that uses the public functions; `test_packaging.py` runs mypy on it and nobody runs it."

from pathlib import Path

import numpy as np
import torch

from xray_explain.data.cases import Cases, read_cases
from xray_explain.data.phantom import Phantom, make_phantom
from xray_explain.draw.gallery import build_gallery_grid
from xray_explain.draw.overlay import create_overlay
from xray_explain.evidence.cam import Explanation, denormalize_tensor, explain, generate_gradcam
from xray_explain.infer.folder import Options, run
from xray_explain.infer.inference import Inference, infer_folder, infer_image
from xray_explain.measure.overlap import compute_cam_iou
from xray_explain.measure.selection import select_examples
from xray_explain.model.checkpoint import Checkpoint, load_checkpoint
from xray_explain.read.annotation import load_annotation_mask
from xray_explain.read.radiograph import Radiograph, read_radiograph
from xray_explain.read.sources import from_folder

model: Checkpoint = load_checkpoint(Path("model.safetensors"))
film: Radiograph = read_radiograph("film.dcm")
found: Inference = infer_image(model, "film.dcm")
name: str = found.prediction
peak: tuple[int, int] | None = found.peak
told: Explanation = explain(model, torch.zeros(1, 3, 224, 224), classes=[0, 2])
exact: bool = told.exact
heat: np.ndarray = generate_gradcam(model, torch.zeros(1, 3, 224, 224), 2)
picture: np.ndarray = create_overlay(denormalize_tensor(torch.zeros(3, 8, 8)), heat)
iou: float = compute_cam_iou(
    heat, load_annotation_mask("film.json", target_size=224), threshold=0.5
)
hits, false_alarms, misses = select_examples(np.zeros(3), np.zeros(3), np.zeros((3, 2)), 1, k=3)
build_gallery_grid([picture], ["film"], 1, 1, "page.png", suptitle="films")
cases: Cases = read_cases("films", classes=("Normal", "Malignant"))
phantom: Phantom = make_phantom(3, "Benign", size=256)
records, failures = infer_folder(model, "films", Path("results"), workers=2)
sources, count = from_folder("films")
done, failed = run(model, sources, count, "results", Options(overlay_format="none"))

# what is wrong is noticed: an ignore without an error is an error
load_checkpoint(3)  # type: ignore[arg-type]
make_phantom("3", "Benign")  # type: ignore[arg-type]
compute_cam_iou(heat, heat, threshold="half")  # type: ignore[arg-type]
wrong: int = found.prediction  # type: ignore[assignment]
found.predicted  # type: ignore[attr-defined]
Options(overlay="none")  # type: ignore[call-arg]
