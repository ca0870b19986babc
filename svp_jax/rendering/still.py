"""Frames in which the face stands still: Stage I's map of the frame before is taken again."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Still:
    """What was drawn last on one track.

    Attributes:
        threshold: mean difference of the condition in grey levels up to which a frame is still; 0 draws every frame.
        count: how many frames were drawn.
        condition, parsing: uint8 [S, S, C] and [S, S, 3] of the last one; None before the first.
    """

    threshold: float
    count: int = 0
    condition: np.ndarray | None = None
    parsing: np.ndarray | None = None

    def choose(self, conditions: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the next n frames are drawn.

        A frame is compared with the last one that was drawn, so that slow motion adds up; where a shot starts, it is
        always drawn.

        Args:
            conditions: uint8 [n, S, S, C]. starts: bool [n].

        Returns:
            int [m], the frames to draw; int [n], of each frame which of these it shows, -1 for what was there before.
        """
        drawn, shown = [], []
        for number, (condition, start) in enumerate(zip(conditions, starts, strict=True)):
            if self.condition is None or start or self._moved(condition):
                drawn.append(number)
                self.condition = condition
            shown.append(len(drawn) - 1)
        self.count += len(drawn)
        return np.array(drawn, int), np.array(shown, int)

    def maps(self, drawn: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """The maps uint8 [n, S, S, 3] that n frames show, by those [m, ...] that were drawn of them."""
        if self.parsing is not None:
            drawn = np.concatenate([drawn, self.parsing[None]])
        # -1 is the last one: what was there before.
        maps = drawn[shown]
        if len(maps):
            self.parsing = maps[-1]
        return maps

    def _moved(self, condition: np.ndarray) -> bool:
        if not self.threshold:
            return True
        return np.abs(condition.astype(np.int16) - self.condition).mean() > self.threshold
