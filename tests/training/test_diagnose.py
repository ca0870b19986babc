"""What is said of a loss or a gradient that is not finite."""

from pathlib import Path

import numpy as np
import pytest

from svp_jax.training.watching.diagnose import not_finite_message, worst

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 1.0, "b": 3.0, "c": 2.0}, ("b", 3.0)),
        ({"a": 1.0, "b": INF, "c": 1e30}, ("b", INF)),
        ({"a": 9.0, "b": -INF, "c": INF}, ("b", -INF)),
    ],
)
def test_the_worst(values, expected):
    assert worst(values) == expected


def test_not_a_number_is_worse_than_anything():
    """Though it compares as neither more nor less."""
    for values in ({"a": 1e30, "b": NAN}, {"b": NAN, "a": 1e30}, {"b": NAN, "a": INF}):
        name, value = worst(values)
        assert name == "b" and value != value


def message(**changes) -> str:
    arguments = {
        "run": "details",
        "step": 8,
        "loss": 0.25,
        "whose": "the batch",
        "origins": np.array([[0, 19], [0, 3], [0, 7], [0, 3]]),
        "parameters": {"unet/a/kernel": 12.34, "controlnet/b/bias": 1.0},
        "gradients": {"unet/a/kernel": 0.5, "controlnet/b/bias": INF, "controlnet/c/bias": NAN},
        "saved": (4, Path("avatar.partial/work/details/checkpoints")),
        "learning_rate": 1e-3,
        "dtype": "float32",
        **changes,
    }
    return not_finite_message(**arguments)


def test_the_message_says_where_what_and_what_to_do():
    assert message() == (
        "details: the gradient is not finite at step 8 (loss 0.25, learning rate 0.001, float32); "
        "the batch has frames 3, 7, 19 of capture 1; "
        "the largest parameter is unet/a/kernel (12.3); "
        "2 of 3 gradients are not finite, the first is controlnet/b/bias (inf); "
        "the state after step 4 is kept in avatar.partial/work/details/checkpoints; "
        "start anew with a lower learning_rate or a longer warm-up (warmup_steps), and look at these frames"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": NAN}, "the loss is not finite at step 8 (loss nan"),
        ({"loss": INF}, "the loss is not finite at step 8 (loss inf"),
        ({"saved": None}, "no checkpoint was saved yet"),
        ({"dtype": "bfloat16"}, "or compute in float32 instead of bfloat16"),
        ({"parameters": {"a": NAN, "b": 1.0}}, "1 of 2 parameters are not finite, the first is a (nan)"),
        ({"parameters": {"a": NAN}}, "the step before this one broke the parameters"),
        (
            {"origins": np.stack([np.zeros(20, int), np.arange(20)], axis=1)},
            "frames 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 4 more of capture 1;",
        ),
        (
            {"origins": np.array([[1, 4], [0, 9], [1, 2]])},
            "the batch has frames 9 of capture 1 and frames 2, 4 of capture 2;",
        ),
        ({"whose": "process 1's part of the batch"}, "; process 1's part of the batch has frames 3, 7, 19 of"),
        ({"origins": None}, "float32); the largest parameter"),
    ],
)
def test_each_case(changes, said):
    text = message(**changes)
    assert said in text and "\n" not in text
