"""All that is scored against one reference: the methods, what stands beside them, and the pixels that count."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.errors import UserError
from svp_jax.face.labels import LABEL_INDEX, decode, face_mask
from svp_jax.metrics.baselines import avatar_vae, mean_training_frame, nearest_training_frames, render_avatar
from svp_jax.metrics.pairs import Pairs, pair_frames, shown_by_all
from svp_jax.metrics.sources import Pictures, Source, open_source
from svp_jax.models.codec import round_trips
from svp_jax.weights.component import instantiate

# Where there is one method, there is nothing to tell it from.
ALONE = "result"
# What no method can be called.
OTHER_ROWS = ("reference", "nearest_frame", "mean_frame", "vae_round_trip")


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        methods: name -> what is scored. pairs: name -> its pictures beside the reference's, the same reference frames
            for all.
        rows: name -> pictures; the methods, then baselines and the ceiling.
        left_out: what of these there is not -> reason.
    """

    reference: Source
    methods: dict[str, Source]
    pairs: dict[str, Pairs]
    rows: dict[str, Pictures]
    left_out: dict[str, str]

    @property
    def frames(self) -> Pairs:
        """The first method's pairs; reference and follows are those of all."""
        return next(iter(self.pairs.values()))

    @property
    def regions(self) -> list[str]:
        return ["full"] if self.reference.capture is None else ["full", "face", "person"]

    def references(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """The reference's pictures of scored frames."""
        return self.reference.pictures(self.frames.reference[numbers])

    def masks(self) -> Iterator[dict[str, np.ndarray | None]]:
        """Of each reference frame the pixels of each region, bool [H, W]; None: all."""
        capture = self.reference.capture
        if capture is None:
            return itertools.repeat({"full": None}, len(self.frames.reference))
        return (_regions(decode(capture.parsing([index])[0])) for index in self.frames.reference)


def _regions(labels: np.ndarray) -> dict[str, np.ndarray | None]:
    return {"full": None, "face": face_mask(labels), "person": labels != LABEL_INDEX["background"]}


def compare(subjects: Sequence[Path], reference: Path) -> Comparison:
    """Opens what is compared, and pairs the frames.

    Raises:
        UserError: bad input, or sizes or numbers of frames that do not fit.
    """
    truth = open_source(reference)
    sources = [open_source(subject) for subject in subjects]
    names = method_names([source.path for source in sources])
    shown = shown_by_all([pair_frames(source, truth) for source in sources], names)
    methods, pairs = dict(zip(names, sources, strict=True)), dict(zip(names, shown, strict=True))
    rows: dict[str, Pictures] = {name: _of(methods[name], pairs[name]) for name in names}
    frames, left_out = shown[0].reference, {}
    # Baselines and the ceiling belong to the avatar of the first method that is a render.
    render = next((source for source in sources if source.render is not None), sources[0])
    try:
        training = _training_captures(render, truth)
        found, looked_up = nearest_training_frames(training, truth.capture, frames)
        mean = mean_training_frame(training)
        rows["nearest_frame"] = lambda numbers: (
            training[source].frames([frame])[0]
            for source, frame in zip(found[numbers], looked_up[numbers], strict=True)
        )
        rows["mean_frame"] = lambda numbers: itertools.repeat(mean, len(numbers))
    except UserError as reason:
        left_out["nearest_frame"] = left_out["mean_frame"] = str(reason)
    try:
        if render.render is None:
            raise UserError(f"{render.path} is no render, so it is not known whose VAE to use")
        vae = instantiate(avatar_vae(render.render))
        rows["vae_round_trip"] = lambda numbers: round_trips(vae, truth.pictures(frames[numbers]))
    except UserError as reason:
        left_out["vae_round_trip"] = str(reason)
    if truth.capture is None:
        reason = f"{truth.path} is a {truth.kind}: a mask needs the parsing maps of a capture"
        left_out["face"] = left_out["person"] = reason
    return Comparison(truth, methods, pairs, rows, left_out)


def method_names(paths: Sequence[Path]) -> list[str]:
    """What methods are called: as their folder or file, with the folders above where that is not enough.

    Raises:
        UserError: one is given twice.
    """
    if len(paths) == 1:
        return [ALONE]
    resolved = [path.resolve() for path in paths]
    for path, place in zip(paths, resolved, strict=True):
        if resolved.count(place) > 1:
            raise UserError(f"{path} is given twice; give each method once")
    short = [path.with_suffix("") if path.is_file() else path for path in resolved]
    depths = range(1, max(len(path.parts) for path in resolved) + 1)
    for depth, named in itertools.chain(((depth, short) for depth in depths), ((depth, resolved) for depth in depths)):
        names = ["/".join(path.parts[-depth:]) for path in named]
        if len(set(names)) == len(names) and not {*OTHER_ROWS} & {*names}:
            break
    return names


def _of(source: Source, pairs: Pairs) -> Pictures:
    return lambda numbers: source.pictures(pairs.subject[numbers])


def _training_captures(subject: Source, reference: Source) -> list[Capture]:
    """The captures whose training frames the baselines look up: the avatar's, or the reference itself."""
    if reference.capture is None:
        raise UserError(f"{reference.path} is a {reference.kind}: the baselines need the condition images of a capture")
    training = [reference.capture]
    if subject.render is not None:
        training = [_made_from(each, reference.capture) for each in render_avatar(subject.render)["captures"]]
    with_faces = [capture for capture in training if len(capture.train_indices)]
    if not with_faces:
        raise UserError(f"{training[0].folder} has no frame with a face in its training split")
    if training[0].size != reference.height:
        raise UserError(f"{training[0].folder} is {training[0].size} pixels wide, {reference.path} {reference.width}")
    return with_faces


def _made_from(recorded: dict, reference: Capture) -> Capture:
    """The capture that an avatar's manifest describes; UserError where it is another by now."""
    if recorded["manifest_sha256"] == reference.manifest["manifest_sha256"]:
        return reference
    capture = open_capture(Path(recorded["path"]))
    if recorded["manifest_sha256"] != capture.manifest["manifest_sha256"]:
        raise UserError(f"the capture {capture.folder} is not the one that the avatar was trained on any more")
    return capture
