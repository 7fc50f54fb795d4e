"""See where and why an X-ray classifier looks, and whether that can be trusted. Research use only, not for clinical decisions.

    import xray_explain as xe

    checkpoint = xe.load_checkpoint()  # the demo model; or the path of your own
    inference = xe.infer_image(checkpoint, "knee.png")
    inference.prediction, inference.confidence, inference.evidence_in_words
    x = checkpoint.preprocessing.tensor(xe.read_radiograph("knee.png"))[None]  # (1, 3, H, W)
    xe.explain(checkpoint, x).evidence  # every class's map from one forward pass, (1, C, h, w)

Names, by what they are for; `help(xe.explain)` explains one, with its parameters and an example:

    read      read_radiograph -> Radiograph; read_annotation -> Annotation; load_annotation_mask;
              RadiographError says in one line what is wrong with a file
    data      read_cases -> Cases; make_phantom and write_phantoms give data to try things on
    model     load_checkpoint -> Checkpoint; save_checkpoint
    explain   explain -> Explanation; generate_gradcam; denormalize_tensor
    infer     infer_image -> Inference; infer_radiographs; infer_folder
    measure   examine -> Study; compute_cam_iou; select_examples
    show      InferenceView; create_overlay; build_gallery_grid; run_report

Rooms, each of which knows only those before it (those without a folder are known to all):

    read      a file as a picture, an outline as a mask
    data      data sets, their audit and split; synthetic radiographs
    evidence  where the network looks: exact maps, other methods
    model     checkpoints, recipes, training, calibration
    draw      overlays, galleries, charts
    measure   how good predictions and maps are, with intervals
    infer     one picture, a folder, a cluster
    report    the report notebooks and what they say
    view      the interactive view
    cli       the same from a terminal

The names below are imported when they are first used; everything else by its room, as in
`from xray_explain.measure.bootstrap import group_weights`.
"""

__version__ = "0.1.0"

import lazy_loader

_attached, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*__all__, "__version__"]


def __getattr__(name):
    item = _attached(name)
    if name not in __all__:
        return item  # a room
    from .guide import explained

    return explained(name, item)
