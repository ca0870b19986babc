"""The settings of a render refuse what cannot be done."""

import math

import pytest

from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"chunk": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"guidance": 0.5},
        {"strength": -0.1},
        {"strength": math.nan},
        {"eta": 1.5},
        {"tau": 1.1},
        {"tau": -0.1},
        {"previous": math.inf},
    ],
)
def test_values_out_of_range(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(UserError, match=f"^--{name} {value}: allowed are "):
        RenderOptions(**wrong)


def test_flags_are_named_as_they_are_typed():
    with pytest.raises(UserError, match=r"^--tau-end 1\.5: allowed are 0 to 1"):
        RenderOptions(tau_end=1.5)


def test_limits_are_allowed():
    RenderOptions(steps=1, chunk=1, seed=2**32 - 1, guidance=1, strength=0, eta=1, tau=1, current=0, previous=-1)


def test_contradictions():
    with pytest.raises(UserError, match=r"--stage outlines .* --maps driver"):
        RenderOptions(stage="outlines", maps="driver")
    with pytest.raises(UserError, match="--negative-prompt has no effect at --guidance 1"):
        RenderOptions(negative_prompt="blurred")
    RenderOptions(negative_prompt="blurred", guidance=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompt", "she"), ("negative_prompt", "he"), ("guidance", 2.0), ("strength", 0.5), ("unet", "base")],
)
def test_what_belongs_to_the_second_stage_alone(name, value):
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} belongs to the second stage"):
        RenderOptions(stage="outlines", **{name: value})
    RenderOptions(stage="outlines", seed=3, eta=1.0, noise_per_frame=True)
