"""DECA (Feng et al. 2021; github.com/yfeng95/DECA) and SPECTRE (Filntisis et al. 2022; github.com/filby89/spectre).

DECA's demo_reconstruct.py writes vertices and pictures, SPECTRE's demo.py a video: neither keeps the codes or the crop.
So users save, in DECA's own names (`codedict` and the dataset's `tform`), what `codes` describes:

    shape [B, 100]       of FLAME; each frame has its own, the person's is their mean
    exp   [B, 50]
    pose  [B, 6]         axis-angle: the head about the root joint, the jaw; neck and eyes are at rest
    cam   [B, 3]         see `weak_perspective`
    tform [B, 3, 3]      from the video to the crop of 224 pixels: `tform.params`
    image_size [2]       height and width of the video
    frame [B]            numbers of the frames, optional

SPECTRE's `exp` and the jaw are those after its demo added DECA's to its own (demo.py: `codedict['exp'] +
initial_deca_exp`). Textures, light and details are not used.
"""

from pathlib import Path

from svp_jax.face.importers.codes import read_codes
from svp_jax.face.importers.imported import Imported, person
from svp_jax.face.importers.weak_perspective import placed
from svp_jax.face.morphable.flame import Flame

SIZES = {"shape": (None,), "exp": (None,), "pose": (6,), "cam": (3,)}


def read_deca(path: Path, model: Flame, tool: str = "deca") -> Imported:
    """Reads codes of DECA, or of SPECTRE where `tool` says so; raises UserError as `read_codes` and `placed` do."""
    codes = read_codes(path, SIZES)
    arrays = codes.arrays
    notes: list[str] = []
    translation, camera = placed(arrays["cam"], arrays["tform"], path)
    parameters = person(
        model,
        path,
        notes,
        identity=arrays["shape"],
        expression=arrays["exp"],
        rotation=arrays["pose"][:, :3],
        jaw=arrays["pose"][:, 3:],
        translation=translation,
    )
    return Imported(tool, parameters, camera, codes.frames, codes.image_size, notes=tuple(notes))
