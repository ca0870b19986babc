"""The CLIP tokenizer that all Stable Diffusion shares: of a folder, or for a single file, which brings none."""

from pathlib import Path
from typing import TYPE_CHECKING

from svp_jax.errors import UserError
from svp_jax.manifest import write_json
from svp_jax.model_files import model_folders

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

VOCABULARY = ("vocab.json", "merges.txt")
# In the folders of model files: the vocabulary for bases that are single files.
FOLDER = "clip_tokenizer"
_FULL_LENGTH = 77


def load_tokenizer(folder: Path, pad_token: str | None = None) -> "CLIPTokenizer":
    """The tokenizer in `folder`; `pad_token` is another one than the folder says.

    Raises:
        UserError: files are missing or unreadable.
    """
    from transformers import CLIPTokenizer  # slow to import

    choices = (VOCABULARY, ("tokenizer.json",))
    if not any(all((folder / name).is_file() for name in names) for names in choices):
        raise UserError(f"{folder} has neither vocab.json and merges.txt nor tokenizer.json; download the base again")
    try:
        changed = {} if pad_token is None else {"pad_token": pad_token}
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **changed)
    except Exception as error:  # the library's own classes for damaged files are many
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder} is not a readable CLIP tokenizer ({reason}); download the base again") from None


def find_vocabulary(given: Path | None = None) -> Path:
    """A folder with CLIP's vocabulary: the `given` one, else clip_tokenizer in the folders of model files.

    Raises:
        UserError: there is none; it says where to get it.
    """
    folders = [Path(given)] if given else [folder / FOLDER for folder in model_folders()]
    for folder in folders:
        if all((folder / name).is_file() for name in VOCABULARY):
            return folder
    places = " or ".join(map(str, folders))
    raise UserError(
        f"a single file brings no tokenizer, and {places} has no {' and '.join(VOCABULARY)}: "
        "fetch it with `svp assets --fetch clip_tokenizer`, or give --tokenizer the folder of any Stable Diffusion's"
    )


def write_tokenizer(vocabulary: Path, folder: Path, pad_token: str) -> None:
    """Makes a tokenizer folder as Stable Diffusion's of CLIP's vocabulary."""
    folder.mkdir()
    for name in VOCABULARY:
        (folder / name).write_bytes((vocabulary / name).read_bytes())
    end = "<|endoftext|>"
    tokens = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": pad_token}
    write_json(folder / "special_tokens_map.json", tokens)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": _FULL_LENGTH, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", {**settings, **tokens})
