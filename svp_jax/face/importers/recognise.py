"""Which tool wrote what a user gives, and its importer."""

from collections.abc import Callable
from pathlib import Path

from svp_jax.errors import UserError, nearest
from svp_jax.face.importers import deca, smirk, vhap
from svp_jax.face.importers.codes import field_names
from svp_jax.face.importers.emoca import read_emoca, result_folders
from svp_jax.face.importers.imported import Imported, in_order
from svp_jax.face.importers.metrical_tracker import frame_files, read_metrical_tracker
from svp_jax.face.morphable.flame import Flame
from svp_jax.face.morphable.parameters import check_finite

TOOLS: dict[str, Callable[[Path, Flame], Imported]] = {
    "deca": deca.read_deca,
    "spectre": lambda path, model: deca.read_deca(path, model, "spectre"),
    "emoca": read_emoca,
    "smirk": smirk.read_smirk,
    "vhap": vhap.read_vhap,
    "metrical-tracker": read_metrical_tracker,
}
# What tells files of arrays apart, and must be in them.
_FIELDS = {"deca": {*deca.SIZES, "tform"}, "smirk": {*smirk.SIZES, "tform"}, "vhap": set(vhap.FIELDS)}
# These write the same files.
_ALIKE = {"spectre": "deca"}


def import_parameters(path: Path, model: Flame, tool: str | None = None) -> Imported:
    """What a face tracker wrote, as parameters of a FLAME model.

    Args:
        path: a file or folder of the tool's output; docs/importers.md says which.
        model: the user's FLAME. Its root joint is needed to place heads that a tool turned about another point, and
            the result has no more weights than it: open it with `flame.ALL`.
        tool: one of `TOOLS`, None recognises it; DECA's and SPECTRE's files look alike, and are called "deca" then.

    Returns:
        Nothing is printed: the caller says what its `notes` say.

    Raises:
        UserError: no such path, an unknown or another tool, or a file that lacks something or is damaged.
    """
    if tool is not None and tool not in TOOLS:
        raise UserError(f"tool {tool}: {nearest(tool, TOOLS)}")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the output of {', '.join(TOOLS)}")
    found = recognise(path)
    if tool is not None and found != _ALIKE.get(tool, tool):
        raise UserError(f"{path} looks like the output of {found}, not of {tool}; give that, or no tool")
    imported = in_order(TOOLS[tool or found](path, model), path)
    check_finite(imported.parameters, str(path))
    return imported


def recognise(path: Path) -> str:
    """The tool that wrote what lies at `path`.

    Raises:
        UserError: none did, or what tells it is missing; names the nearest and what lacks.
    """
    if path.is_dir():
        folders = {
            "metrical-tracker": frame_files(path),
            "vhap": [*vhap.tracked_files(path), *path.glob(vhap.EXPORT)],
            "emoca": result_folders(path),
        }
        for tool, files in folders.items():
            if files:
                return tool
    names = field_names(path)
    if not names and (path.suffix == ".mat" or next(path.glob("*/*.mat"), None) is not None):
        raise UserError(f"{path} is of DECA's, but holds vertices and no codes; save these as docs/importers.md says")
    lacking = {tool: sorted(fields - names - {"eyelid_params"}) for tool, fields in _FIELDS.items()}
    # The one of whose fields the largest part is there.
    tool = min(lacking, key=lambda tool: len(lacking[tool]) / len(_FIELDS[tool]))
    if not lacking[tool]:
        return tool
    if not names & _FIELDS[tool]:
        raise UserError(f"{path} is not the output of {', '.join(TOOLS)}; docs/importers.md says what these write")
    raise UserError(f"{path} is nearest to the output of {tool}, but lacks {', '.join(lacking[tool])}; save these too")
