# The names at the front door: for type checkers, and for `lazy_loader`, which imports each at its first use
__version__: str

from .read.radiograph import Radiograph as Radiograph
from .read.radiograph import read_radiograph as read_radiograph
from .read.pixels import RadiographError as RadiographError
from .read.outlines.annotation import Annotation as Annotation
from .read.outlines.annotation import read_annotation as read_annotation
from .read.outlines.annotation import load_annotation_mask as load_annotation_mask
from .data.cases import Cases as Cases
from .data.cases import read_cases as read_cases
from .data.phantom import make_phantom as make_phantom
from .data.phantom import write_phantoms as write_phantoms
from .evidence.cam import Explanation as Explanation
from .evidence.cam import explain as explain
from .evidence.cam import generate_gradcam as generate_gradcam
from .evidence.cam import denormalize_tensor as denormalize_tensor
from .model.checkpoint import Checkpoint as Checkpoint
from .model.checkpoint import load_checkpoint as load_checkpoint
from .model.checkpoint import save_checkpoint as save_checkpoint
from .draw.overlay import create_overlay as create_overlay
from .draw.gallery import build_gallery_grid as build_gallery_grid
from .measure.study import Study as Study
from .measure.study import examine as examine
from .measure.overlap import compute_cam_iou as compute_cam_iou
from .measure.selection import select_examples as select_examples
from .infer.inference import Inference as Inference
from .infer.inference import infer_image as infer_image
from .infer.inference import infer_radiographs as infer_radiographs
from .infer.inference import infer_folder as infer_folder
from .report.run import run_report as run_report
from .view.widget import InferenceView as InferenceView
