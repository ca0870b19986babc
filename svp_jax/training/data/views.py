"""What is trained on: the frames of one or more captures as they are, and copies of them that were changed.

A short clip shows a head in few places, and a network that only sees those learns them by heart: without moved copies
it draws a head that stays where it was and as upright. Picture and conditions are moved, and mirrored, alike.

In a copy shoulders and background move with the head, in the person's own frames they stay. The prompt says which it is
(Karras et al., arXiv 2206.00364, appendix F.2, tell their network how a picture was augmented, for the same reason).

Copies are made once and are the same in every epoch, so that their latents are computed once too.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.face.conditions import degrade_parsing
from svp_jax.face.labels import swap_sides
from svp_jax.training.config import Copies
from svp_jax.training.data.copies import (
    UNCOLOURED,
    UNMOVED,
    make_colours,
    make_moves,
    mirror_half,
    mirrors,
    move,
    recolour,
    turn_normals,
)

# What the prompt of a copy ends with.
COPY_PROMPT = ", moved"


@dataclass(frozen=True)
class Views:
    """Numbered pictures to train on or to look at; small when pickled, since the pictures stay on disk.

    Attributes:
        captures: of one size, face model and parser; without their landmarks.
        sources: int [n], which of the captures each is of.
        frames: int [n], the capture's frame of each.
        moves: float32 [n, 2, 3], where its pixels go (`copies.py`).
        colours: float32 [n, 3, 2], gain and offset of the frame's red, green and blue.
    """

    captures: tuple[Capture, ...]
    sources: np.ndarray
    frames: np.ndarray
    moves: np.ndarray
    colours: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> int:
        """Width and height of the pictures."""
        return self.captures[0].size

    def __getitem__(self, numbers: np.ndarray) -> "Views":
        """The views `numbers` alone, numbered anew."""
        return Views(
            self.captures, self.sources[numbers], self.frames[numbers], self.moves[numbers], self.colours[numbers]
        )

    def origins(self, numbers: np.ndarray) -> np.ndarray:
        """Which capture (from 0) and which of its frames the views `numbers` are of, int [n, 2]."""
        return np.stack([self.sources[numbers], self.frames[numbers]], axis=1)

    def changed(self, numbers: np.ndarray) -> np.ndarray:
        """Which of the views `numbers` are not as the capture has them, bool [n]."""
        moved = (self.moves[numbers] != UNMOVED).any(axis=(1, 2))
        return moved | (self.colours[numbers] != UNCOLOURED).any(axis=(1, 2))

    def targets(self, stage: str, numbers: np.ndarray) -> np.ndarray:
        """What a stage learns to make: parsing maps (outlines) or frames (details), uint8 [n, S, S, 3]."""
        return np.stack([self._target(stage, number) for number in numbers])

    def condition(
        self,
        stage: str,
        numbers: np.ndarray,
        window: int,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> np.ndarray:
        """The condition images of the views `numbers`, uint8 [n, S, S, C].

        Args:
            rngs: one for each; they degrade the parsing maps (training of the details stage). None leaves them as
                they are.
        """
        rngs = [None] * len(numbers) if rngs is None else rngs
        return np.stack([self._condition(stage, *each, window) for each in zip(numbers, rngs, strict=True)])

    def source_hash(self) -> str:
        """Of the captures, the frames and their changes."""
        digest = hashlib.sha256()
        for capture in self.captures:
            digest.update(capture.manifest["manifest_sha256"].encode())
        for array in (self.sources, self.frames):
            digest.update(np.asarray(array, np.int64).tobytes())
        digest.update(self.moves.tobytes())
        digest.update(self.colours.tobytes())
        return digest.hexdigest()

    def _parsing(self, number: int) -> np.ndarray:
        """Where it was, but with the sides' labels as in a mirrored face, uint8 [S, S, 3]."""
        parsing = self.captures[self.sources[number]].parsing([self.frames[number]])[0]
        return swap_sides(parsing) if mirrors(self.moves[number]) else parsing

    def _target(self, stage: str, number: int) -> np.ndarray:
        matrix = self.moves[number][None]
        if stage == "outlines":
            return move(self._parsing(number)[None], matrix)[0]
        frame = self.captures[self.sources[number]].frames([self.frames[number]])
        return recolour(move(frame, matrix), self.colours[number][None])[0]

    def _condition(self, stage: str, number: int, rng: np.random.Generator | None, window: int) -> np.ndarray:
        capture, frame, matrix = self.captures[self.sources[number]], self.frames[[number]], self.moves[number][None]
        if stage == "outlines":
            condition, renders = outlines_of(capture, frame, window), range(window)
        else:
            parsing = self._parsing(number)
            parsing = parsing if rng is None else degrade_parsing(rng, parsing)
            condition, renders = details_of(capture, frame, parsing[None]), (1,)
            if mirrors(matrix[0]):
                # The right and the left iris.
                condition[..., [6, 7]] = condition[..., [7, 6]]
        if np.array_equal(matrix[0], UNMOVED):
            return condition[0]
        for channels in (slice(3 * render, 3 * render + 3) for render in renders):
            condition[..., channels] = turn_normals(condition[..., channels], matrix)
        return move(condition, matrix)[0]


def plain_views(captures: Sequence[Capture], frames: Sequence[np.ndarray]) -> Views:
    """The `frames` int [n] of each of the `captures`, one capture after the other, as they are."""
    count = sum(map(len, frames))
    return Views(
        # Of a long capture they are a hundred megabytes, and no picture needs them.
        tuple(dataclasses.replace(capture, landmarks=capture.landmarks[:, :0]) for capture in captures),
        np.repeat(np.arange(len(captures)), [len(each) for each in frames]),
        np.concatenate(frames).astype(np.int64),
        np.tile(UNMOVED, (count, 1, 1)),
        np.tile(UNCOLOURED, (count, 1, 1)),
    )


def training_views(captures: Sequence[Capture], copies: Copies, seed: int) -> Views:
    """All usable training frames, then the copies of all of them, `copies.per_frame` times."""
    frames = plain_views(captures, [capture.train_indices for capture in captures])
    count, size = len(frames), frames.size
    views = frames[np.tile(np.arange(count), 1 + copies.per_frame)]
    moves, colours = views.moves, views.colours
    if copies.moved:
        moves = make_moves(count, copies.per_frame, size, seed)
    if copies.flipped:
        moves = np.concatenate([moves[:count], mirror_half(moves[count:], size, seed)])
    if copies.colour:
        colours = np.concatenate([colours[:count], make_colours(len(views) - count, copies.colour, seed)])
    return dataclasses.replace(views, moves=moves, colours=colours)
