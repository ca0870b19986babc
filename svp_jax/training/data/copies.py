"""How copies of training frames are changed: moved within the picture, mirrored, or their colours changed.

A change of place is a matrix [2, 3] of a similarity: x' = matrix @ (x, y, 1). One that mirrors has a negative
determinant.
"""

import cv2
import numpy as np

# Largest shift, as a part of the picture, largest change of size and largest turn (radians) of a copy (our choice).
SHIFT = 0.1
SCALE = 0.1
TURN = np.radians(10.0)

UNMOVED = np.eye(2, 3, dtype=np.float32)
# Gain and offset of red, green and blue.
UNCOLOURED = np.tile(np.float32([1.0, 0.0]), (3, 1))


def make_moves(pictures: int, copies: int, size: int, seed: int) -> np.ndarray:
    """One that moves nothing for each of the `pictures`, then `copies` random ones for each.

    Returns float32 [pictures * (1 + copies), 2, 3]. A random move shifts, and turns and changes the size about the
    middle of a picture `size` wide.
    """
    count = pictures * copies
    # `batches.py` seeds with pairs (seed, epoch) and with (seed, step, row, 1).
    rng = np.random.default_rng((seed, 0, 2))
    scale = np.exp(rng.uniform(-SCALE, SCALE, count))
    shift = rng.uniform(-SHIFT, SHIFT, (count, 2)) * size
    turn = rng.uniform(-TURN, TURN, count)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = np.moveaxis(linear, -1, 0)
    middle = np.full(2, (size - 1) / 2)
    moves = np.concatenate([linear, (shift + middle - linear @ middle)[..., None]], axis=2).astype(np.float32)
    return np.concatenate([np.tile(UNMOVED, (pictures, 1, 1)), moves])


def mirror_half(moves: np.ndarray, size: int, seed: int) -> np.ndarray:
    """`moves` float32 [n, 2, 3], about half of which mirror the picture, `size` wide, before they move it."""
    mirror = np.array([[-1, 0, size - 1], [0, 1, 0]], np.float32)
    mirrored = np.concatenate([moves[:, :, :2] @ mirror[:, :2], (moves[:, :, :2] @ mirror[:, 2:]) + moves[:, :, 2:]], 2)
    chosen = np.random.default_rng((seed, 1, 2)).random(len(moves)) < 0.5
    return np.where(chosen[:, None, None], mirrored, moves)


def make_colours(count: int, largest: float, seed: int) -> np.ndarray:
    """Random gains and offsets of red, green and blue, float32 [count, 3, 2].

    Contrast about the middle grey, brightness and each colour's share of it change by up to `largest` of themselves.
    """
    contrast, brightness, *balance = 1 + np.random.default_rng((seed, 2, 2)).uniform(-largest, largest, (5, count))
    gains = brightness[:, None] * np.stack(balance, axis=1)
    return np.stack([gains * contrast[:, None], gains * 127.5 * (1 - contrast[:, None])], axis=2).astype(np.float32)


def mirrors(matrix: np.ndarray) -> bool:
    """Whether a move [2, 3] mirrors."""
    return bool(np.linalg.det(matrix[:, :2]) < 0)


def turn_normals(renders: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Renders uint8 [n, S, S, 3] (`rasterizer.render_normals`) of surfaces turned or mirrored as `moves` [n, 2, 3] do.

    The colours alone: no pixel moves.
    """
    turned = renders.copy()
    for render, linear, out in zip(renders, moves[:, :, :2], turned, strict=True):
        # Normals have y up, moves have y down.
        turn = linear * [[1, -1], [-1, 1]] / np.sqrt(np.abs(np.linalg.det(linear)))
        if np.array_equal(turn, np.eye(2)):
            continue
        covered = render.any(-1)
        out[covered, :2] = np.rint((render[covered, :2] / 127.5 - 1) @ turn.T * 127.5 + 127.5).clip(0, 255)
    return turned


def move(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Images uint8 [n, S, S, C] moved by `moves` [n, 2, 3]; what comes in at an edge repeats the edge."""
    moved = np.empty_like(images)
    for image, matrix, out in zip(images, moves, moved, strict=True):
        if np.array_equal(matrix, UNMOVED):
            out[...] = image
            continue
        # OpenCV takes four channels at most.
        for start in range(0, image.shape[-1], 3):
            part = np.ascontiguousarray(image[..., start : start + 3])
            out[..., start : start + 3] = cv2.warpAffine(
                part, matrix, part.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return moved


def recolour(images: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Images uint8 [n, S, S, 3] with gains and offsets [n, 3, 2] applied, rounded and cut off at 0 and 255."""
    result = np.empty_like(images)
    for image, colour, out in zip(images, colours, result, strict=True):
        if np.array_equal(colour, UNCOLOURED):
            out[...] = image
            continue
        table = np.rint(np.arange(256)[:, None] * colour[:, 0] + colour[:, 1]).clip(0, 255).astype(np.uint8)
        out[...] = cv2.LUT(image, table[None])
    return result
