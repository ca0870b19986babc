"""Avatars out of the single files that their stages were exported to: the manifest travels in each file's header."""

from collections.abc import Sequence
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import CHECKSUM, body_of, checksum, write_manifest
from svp_jax.weights.avatar import STAGES, part_hashes
from svp_jax.weights.folder import write_model
from svp_jax.weights.single_file import SingleFile, header, open_single_file
from svp_jax.weights.target import check_target, new_folder

# Name of the text in the header: {"stage": its name, "manifest": the avatar's}.
AVATAR_TEXT = "svp_jax.avatar"


def avatar_of_files(sources: Sequence[Path], target: Path) -> Path:
    """Makes an avatar again out of the files that its stages were exported to, each with all its tensors.

    Raises:
        UserError: a file is no exported stage, two are of the same stage or of different avatars, or the target exists.
    """
    target = Path(target)
    check_target(target)
    stages: dict[str, SingleFile] = {}
    manifests = []
    for source in sources:
        file = open_single_file(Path(source))
        exported = header(file.texts, AVATAR_TEXT)
        if not exported:
            raise UserError(f"{source} was not exported from an avatar: its header does not say from which")
        stage, manifest = exported.get("stage"), exported.get("manifest")
        if stage not in STAGES or not isinstance(manifest, dict) or manifest.get(CHECKSUM) != checksum(manifest):
            raise UserError(f"{source}: the text {AVATAR_TEXT} in its header was edited; export the avatar again")
        if stage in stages:
            raise UserError(f"{source} is the stage {stage} again; give each stage once")
        if absent := {"controlnet", "unet", "vae"} - file.components.keys():
            raise UserError(f"{source} has lost its {' and its '.join(sorted(absent))}; export the avatar again")
        stages[stage] = file
        manifests.append(manifest)
    manifest = manifests[0]
    if any(other[CHECKSUM] != manifest[CHECKSUM] for other in manifests):
        raise UserError(f"{' and '.join(str(source) for source in sources)} are stages of different avatars")
    with new_folder(target) as folder:
        for name, file in stages.items():
            write_model(file.components["controlnet"], folder / name / "controlnet")
            if manifest["stages"][name]["trainable"] != "locked":
                write_model(file.components["unet"], folder / name / "unet")
        if manifest["vae_tuned"]:
            write_model(next(iter(stages.values())).components["vae"], folder / "vae")
        kept = {name: settings for name, settings in manifest["stages"].items() if name in stages}
        write_manifest(folder, "avatar", body_of(manifest) | {"stages": kept, "files": part_hashes(folder)})
    return target
