"""What is trained on: a capture's frames as they are, and copies of them moved within the picture.

A short clip shows a head in few places, and a network that only sees those learns them by heart: without the copies it
draws a head that stays where it was and as upright. Picture and conditions are moved alike.

In a copy shoulders and background move with the head, in the person's own frames they stay. The prompt says which it is
(Karras et al., arXiv 2206.00364, appendix F.2, tell their network how a picture was augmented, for the same reason).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.face.conditions import degrade_parsing

# Largest shift, as a part of the picture, largest change of size and largest turn (radians) of a copy (our choice).
SHIFT = 0.1
SCALE = 0.1
TURN = np.radians(10.0)
# What the prompt of a copy ends with.
MOVED_PROMPT = ", moved"


def read_targets(capture: Capture, stage: str) -> Callable[[np.ndarray], np.ndarray]:
    """What a stage learns to make: parsing maps (outlines) or frames (details), uint8 [n, S, S, 3]."""
    return capture.parsing if stage == "outlines" else capture.frames


def stage_condition(
    capture: Capture, stage: str, indices: np.ndarray, window: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """The condition images of frames `indices`, uint8 [n, S, S, C].

    Args:
        rng: degrades the parsing maps (training of the details stage); None leaves them as they are.
    """
    if stage == "outlines":
        return outlines_of(capture, indices, window)
    parsing = capture.parsing(indices)
    if rng is not None:
        parsing = np.stack([degrade_parsing(rng, image) for image in parsing])
    return details_of(capture, indices, parsing)


@dataclass(frozen=True)
class Views:
    """Numbered pictures to train on.

    Attributes:
        frames: int [n], the capture's frame of each.
        moves: float32 [n, 2, 3], where its pixels go: x' = moves @ (x, y, 1).
    """

    capture: Capture
    frames: np.ndarray
    moves: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def moved(self, numbers: np.ndarray) -> np.ndarray:
        """Which of the views `numbers` are copies, bool [n]."""
        return (self.moves[numbers] != np.eye(2, 3)).any(axis=(1, 2))

    def targets(self, stage: str, numbers: np.ndarray) -> np.ndarray:
        """As `read_targets`, of the views `numbers`."""
        return move(read_targets(self.capture, stage)(self.frames[numbers]), self.moves[numbers])

    def condition(
        self, stage: str, numbers: np.ndarray, window: int, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """As `stage_condition`, of the views `numbers`."""
        condition = stage_condition(self.capture, stage, self.frames[numbers], window, rng)
        renders = range(window) if stage == "outlines" else (1,)
        for channels in (slice(3 * number, 3 * number + 3) for number in renders):
            condition[..., channels] = turn_normals(condition[..., channels], self.moves[numbers])
        return move(condition, self.moves[numbers])

    def source_hash(self) -> str:
        """Of the capture, the frames and the moves."""
        digest = hashlib.sha256(self.capture.manifest["manifest_sha256"].encode())
        digest.update(np.asarray(self.frames, np.int64).tobytes())
        digest.update(self.moves.tobytes())
        return digest.hexdigest()


def training_views(capture: Capture, copies: int, seed: int) -> Views:
    """All usable training frames, then `copies` moved copies of each."""
    frames = capture.train_indices
    return Views(capture, np.tile(frames, 1 + copies), make_moves(len(frames), copies, capture.size, seed))


def make_moves(pictures: int, copies: int, size: int, seed: int) -> np.ndarray:
    """One that moves nothing for each of the `pictures`, then `copies` random ones for each.

    Returns float32 [pictures * (1 + copies), 2, 3]. A random move shifts, and turns and changes the size about the
    middle of a picture `size` wide.
    """
    count = pictures * copies
    # `batches.py` seeds with pairs (seed, epoch) and triples (seed, step, 1).
    rng = np.random.default_rng((seed, 0, 2))
    scale = np.exp(rng.uniform(-SCALE, SCALE, count))
    shift = rng.uniform(-SHIFT, SHIFT, (count, 2)) * size
    turn = rng.uniform(-TURN, TURN, count)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = np.moveaxis(linear, -1, 0)
    middle = np.full(2, (size - 1) / 2)
    moves = np.concatenate([linear, (shift + middle - linear @ middle)[..., None]], axis=2).astype(np.float32)
    return np.concatenate([np.tile(np.eye(2, 3, dtype=np.float32), (pictures, 1, 1)), moves])


def turn_normals(renders: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Renders uint8 [n, S, S, 3] (`rasterizer.render_normals`) of surfaces turned as `moves` [n, 2, 3] turn pictures.

    The colours alone: no pixel moves.
    """
    turned = renders.copy()
    for render, linear, out in zip(renders, moves[:, :, :2], turned, strict=True):
        if linear[1, 0] == 0:
            continue
        covered = render.any(-1)
        # Normals have y up, moves have y down.
        turn = linear * [[1, -1], [-1, 1]] / np.sqrt(np.linalg.det(linear))
        out[covered, :2] = np.rint((render[covered, :2] / 127.5 - 1) @ turn.T * 127.5 + 127.5).clip(0, 255)
    return turned


def move(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Images uint8 [n, S, S, C] moved by `moves` [n, 2, 3]; what comes in at an edge repeats the edge."""
    moved = np.empty_like(images)
    for image, matrix, out in zip(images, moves, moved, strict=True):
        if np.array_equal(matrix, np.eye(2, 3)):
            out[...] = image
            continue
        # OpenCV takes four channels at most.
        for start in range(0, image.shape[-1], 3):
            part = np.ascontiguousarray(image[..., start : start + 3])
            out[..., start : start + 3] = cv2.warpAffine(
                part, matrix, part.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return moved
