"What a checker says of code that uses the public functions; `test_packaging.py` runs mypy on it and nobody runs it."

from pathlib import Path

import numpy as np
import torch

import xray_explain as xe
from xray_explain.data.phantom import Phantom
from xray_explain.infer.folder import Options, run
from xray_explain.read.sources import from_folder

model: xe.Checkpoint = xe.load_checkpoint(Path("model.safetensors"))
film: xe.Radiograph = xe.read_radiograph("film.dcm")
inference: xe.Inference = xe.infer_image(model, "film.dcm")
name: str = inference.prediction
peak: tuple[int, int] | None = inference.peak
explanation: xe.Explanation = xe.explain(model, torch.zeros(1, 3, 224, 224), classes=[0, 2])
exact: bool = explanation.exact
heat: np.ndarray = xe.generate_gradcam(model, torch.zeros(1, 3, 224, 224), 2)
picture: np.ndarray = xe.create_overlay(xe.denormalize_tensor(torch.zeros(3, 8, 8)), heat)
iou: float = xe.compute_cam_iou(
    heat, xe.load_annotation_mask("film.json", target_size=224), threshold=0.5
)
hits, false_alarms, misses = xe.select_examples(np.zeros(3), np.zeros(3), np.zeros((3, 2)), 1, k=3)
xe.build_gallery_grid([picture], ["film"], 1, 1, "page.png", suptitle="films")
cases: xe.Cases = xe.read_cases("films", classes=("Normal", "Malignant"))
phantom: Phantom = xe.make_phantom(3, "Benign", size=256)
records, failures = xe.infer_folder(model, "films", Path("results"), workers=2)
sources, count = from_folder("films")
counts = run(model, sources, count, "results", Options(overlay_format="none"))

# what is wrong is noticed: an ignore without an error is an error
xe.load_checkpoint(3)  # type: ignore[arg-type]
xe.make_phantom("3", "Benign")  # type: ignore[arg-type]
xe.compute_cam_iou(heat, heat, threshold="half")  # type: ignore[arg-type]
wrong: int = inference.prediction  # type: ignore[assignment]
inference.predicted  # type: ignore[attr-defined]
Options(overlay="none")  # type: ignore[call-arg]
xe.no_such_name  # type: ignore[attr-defined]
