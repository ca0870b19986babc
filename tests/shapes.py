"""Meshes that tests draw."""

import numpy as np


def unit_sphere(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere (x right, y up, z to the viewer) whose faces wind counter-clockwise as seen from outside."""
    longitude = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows)
    b, a = np.meshgrid(latitude, longitude, indexing="ij")
    points = np.stack([np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)], -1).reshape(-1, 3)
    here = np.arange(rows - 1)[:, None] * columns + np.arange(columns)
    right = np.arange(rows - 1)[:, None] * columns + (np.arange(columns) + 1) % columns
    p, q, r, s = (x.ravel() for x in (here, right, here + columns, right + columns))
    return points, np.concatenate([np.stack([p, q, r], 1), np.stack([q, s, r], 1)])
