"""The settings of a render refuse what cannot be done."""

import math
from pathlib import Path

import pytest

from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.quality import PRESETS, with_preset


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
        {"batch": 0},
        {"guidance_start": -0.1},
        {"guidance_end": 1.1},
        {"control_start": math.nan},
        {"control_end": 1.5},
        {"reuse": 0},
        {"reuse": 1001},
        {"begin": -0.1},
        {"begin": 1.0},
        {"still": -1.0},
        {"segments": 0},
        {"tolerance": 0.0},
        {"tolerance": 1.1},
    ],
)
def test_values_out_of_range(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} {value}: allowed are "):
        RenderOptions(**wrong)


def test_flags_are_named_as_they_are_typed():
    with pytest.raises(UserError, match=r"^--tau-end 1\.5: allowed are 0 to 1"):
        RenderOptions(tau_end=1.5)


def test_limits_are_allowed():
    RenderOptions(steps=1, chunk=1, seed=2**32 - 1, guidance=1, strength=0, eta=1, tau=1, current=0, previous=-1)
    RenderOptions(guidance_start=0, guidance_end=1, control_start=0.5, control_end=0.51, reuse=1, begin=0)
    RenderOptions(reuse=1000, begin=0.99, still=0, batch=1)
    RenderOptions(segments=2, tolerance=1)


def test_contradictions():
    with pytest.raises(UserError, match=r"--stage outlines .* --maps driver"):
        RenderOptions(stage="outlines", maps="driver")
    with pytest.raises(UserError, match="--negative-prompt has no effect at --guidance 1"):
        RenderOptions(negative_prompt="blurred")
    RenderOptions(negative_prompt="blurred", guidance=2, guidance_end=0.5)
    with pytest.raises(UserError, match="--prompt and --prompt-timeline both say the text; leave one of the two out"):
        RenderOptions(prompt="", prompt_timeline=Path("texts.csv"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"guidance_end": 0.5}, "--guidance-end has no effect at --guidance 1"),
        ({"guidance_start": 0.5}, "--guidance-start has no effect at --guidance 1"),
        ({"maps": "driver", "still": 1.0}, "--still belongs to the first stage, which --maps driver leaves out"),
        ({"maps": "driver", "outlines_strength": 0.5}, "--outlines-strength belongs to the first stage"),
        ({"tolerance": 0.1}, "--tolerance says how exactly --segments fit together"),
        ({"sweep": "strength=0|1", "strength": 0.5}, "--sweep strength=... gives the values of --strength"),
        ({"sweep": "prompt=a|b", "prompt": "c"}, "--sweep prompt=... gives the values of --prompt"),
        ({"sweep": "prompt=a|b", "prompt_timeline": Path("texts.csv")}, "--sweep prompt=... and --prompt-timeline"),
    ],
)
def test_flags_that_would_do_nothing(flags, message):
    with pytest.raises(UserError, match=f"^{message}"):
        RenderOptions(**flags)


@pytest.mark.parametrize("name", ["control", "guidance"])
@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.4), (1, 1), (0, 0)])
def test_windows_that_hold_nothing(name, start, end):
    with pytest.raises(UserError, match=f"^--{name}-start {start}: allowed is less than --{name}-end, {end}$"):
        RenderOptions(**{f"{name}_start": start, f"{name}_end": end})


@pytest.mark.parametrize("other", [{"begin": 0.5}, {"still": 1.0}, {"also": (Path("a"),)}, {"sweep": "strength=0|1"}])
def test_what_segments_do_not_go_with(other):
    with pytest.raises(UserError, match=f"--{next(iter(other))} .*--segments|--segments .*--{next(iter(other))}"):
        RenderOptions(segments=2, **other)
    RenderOptions(segments=1, **other)
    RenderOptions(segments=2, begin=0.0, still=0.0)


@pytest.mark.parametrize(
    ("unet", "share"), [("tuned", 1.0), ("base", 0.0), ("1", 1.0), ("0", 0.0), ("0.5", 0.5), ("1e-1", 0.1)]
)
def test_shares_of_the_unet(unet, share):
    assert RenderOptions(unet=unet).tuned_share == share


@pytest.mark.parametrize("unet", ["abc", "1.5", "-0.1", "nan", "inf", "", "Tuned"])
def test_unets_that_are_none(unet):
    with pytest.raises(UserError, match=rf"^--unet {unet}: allowed are tuned, base, or a number from 0 .* to 1 "):
        RenderOptions(unet=unet)


def test_a_preset_gives_way_to_what_is_given():
    assert with_preset(RenderOptions(), 40) == RenderOptions(steps=40, reuse=1)
    for quality, preset in PRESETS.items():
        options = with_preset(RenderOptions(quality=quality), 40)
        assert (options.steps, options.reuse) == (40 * preset.steps, preset.reuse)
        given = RenderOptions(quality=quality, steps=7, reuse=3)
        assert with_preset(given, 40) == given
    assert with_preset(RenderOptions(quality="draft"), 2).steps == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "she"),
        ("negative_prompt", "he"),
        ("guidance", 2.0),
        ("guidance_start", 0.1),
        ("strength", 0.5),
        ("control_end", 0.9),
        ("unet", "base"),
        ("unet", "0.5"),
        ("prompt_timeline", Path("texts.csv")),
    ],
)
def test_what_belongs_to_the_second_stage_alone(name, value):
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} belongs to the second stage"):
        RenderOptions(stage="outlines", **{name: value})
    RenderOptions(stage="outlines", seed=3, eta=1.0, noise_per_frame=True)
