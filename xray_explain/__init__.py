"""See where and why an X-ray classifier looks, and whether that can be trusted. Research use only, not for clinical decisions.

    import xray_explain as xe

    checkpoint = xe.load_checkpoint()  # the demo model; or the path of your own
    inference = xe.infer_image(checkpoint, "knee.png")
    inference.prediction, inference.confidence, inference.evidence_in_words
    x = checkpoint.preprocessing.tensor(xe.read_radiograph("knee.png"))[None]  # (1, 3, H, W)
    xe.explain(checkpoint, x).evidence  # every class's map from one forward pass, (1, C, h, w)

Rooms, each of which knows only those before it (`files`, `wording`, `display` and `terminal`
are known to all):

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

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*__all__, "__version__"]
