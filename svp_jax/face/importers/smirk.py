"""SMIRK (Retsinas et al. 2024; github.com/georgeretsi/smirk).

demo_video.py writes a video and keeps nothing else. So users save what its encoder gives (src/smirk_encoder.py), under
its own names, as `codes` describes:

    shape_params [B, 300]      of FLAME; each frame has its own, the person's is their mean
    expression_params [B, 50]
    pose_params [B, 3]         axis-angle, the head about the root joint; neck and eyes are at rest
    jaw_params [B, 3]
    eyelid_params [B, 2]       optional: SMIRK's own blend shapes, which FLAME lacks; left out with a note
    cam [B, 3]                 as DECA's, see `weak_perspective`
    tform [B, 3, 3]            from the video to the crop of 224 pixels: `tform.params`, which --crop makes
    image_size [2]             height and width of the video
    frame [B]                  numbers of the frames, optional
"""

from pathlib import Path

from svp_jax.face.importers.codes import read_codes
from svp_jax.face.importers.imported import Imported, left_out, person
from svp_jax.face.importers.weak_perspective import placed
from svp_jax.face.morphable.flame import Flame

SIZES = {
    "shape_params": (None,),
    "expression_params": (None,),
    "pose_params": (3,),
    "jaw_params": (3,),
    "eyelid_params": (2,),
    "cam": (3,),
}


def read_smirk(path: Path, model: Flame) -> Imported:
    """Reads codes of SMIRK; raises UserError as `read_codes` and `placed` do."""
    codes = read_codes(path, SIZES, optional=("eyelid_params",))
    arrays = codes.arrays
    notes = []
    if "eyelid_params" in arrays and arrays["eyelid_params"].any():
        notes.append(left_out(path, "what closes the eyelids (eyelid_params)"))
    translation, camera = placed(arrays["cam"], arrays["tform"], path)
    parameters = person(
        model,
        path,
        notes,
        identity=arrays["shape_params"],
        expression=arrays["expression_params"],
        rotation=arrays["pose_params"],
        jaw=arrays["jaw_params"],
        translation=translation,
    )
    return Imported("smirk", parameters, camera, codes.frames, codes.image_size, notes=tuple(notes))
