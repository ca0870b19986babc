"""The table of what is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from svp_jax.models import UNet, UNetConfig
from svp_jax.models.controlnet import controlnet_from_unet
from svp_jax.training.step.trainable import assemble, divide, flatten, multipliers, stage_rules, table, vae_rules


class OneKey:
    """Stands for nnx.Rngs where only shapes are wanted; drawing real keys is slow."""

    def params(self):
        return jax.random.key(0)


@pytest.fixture(scope="module")
def stable_diffusion():
    """Shapes of Stable Diffusion 1.5's UNet and its ControlNet for three condition channels, by flat name."""

    def models():
        unet = UNet(UNetConfig.from_json({"cross_attention_dim": 768}), rngs=OneKey())
        return {"controlnet": controlnet_from_unet(unet, 3, OneKey()), "unet": unet}

    return flatten(nnx.eval_shape(models))[1]


@pytest.mark.parametrize(
    ("trainable", "millions"),
    # The counts of the published models: ControlNet 361.28 M, the whole UNet 859.52 M.
    [("locked", 361.28), ("unlocked", 872.3), ("full", 361.28 + 859.52)],
)
def test_stable_diffusion_counts(stable_diffusion, trainable, millions):
    trained, frozen, _ = divide(stable_diffusion, stage_rules(trainable, 1.0))
    assert sum(leaf.size for leaf in trained.values()) / 1e6 == pytest.approx(millions, abs=0.5)
    assert trained.keys() | frozen.keys() == stable_diffusion.keys()
    assert not trained.keys() & frozen.keys()
    assert not any("time_embedding" in name for name in trained if name.startswith("unet/")) or trainable == "full"


def test_first_match_decides_and_multipliers_are_kept():
    rules = ((r"a/x", 0.5), (r"a/.*", None), (r".*", 1.0))
    assert multipliers(["a/x", "a/y", "b/x"], rules) == {"a/x": 0.5, "a/y": None, "b/x": 1.0}
    trained, frozen, rates = divide({"a/x": 1, "a/y": 2, "b/x": 3}, rules)
    assert (trained, frozen, rates) == ({"a/x": 1, "b/x": 3}, {"a/y": 2}, {"a/x": 0.5, "b/x": 1.0})


def test_every_parameter_must_be_covered():
    with pytest.raises(ValueError, match=r"no rule covers b/x; no rule covers c/x"):
        multipliers(["a/x", "b/x", "c/x"], ((r"a/.*", 1.0),))


def test_every_rule_must_cover_something():
    with pytest.raises(ValueError, match=r"rule 'b/\.\*' covers no parameter"):
        multipliers(["a/x"], ((r"a/.*", 1.0), (r"b/.*", 1.0)))
    # A rule covers nothing when the ones before it took it all.
    with pytest.raises(ValueError, match=r"rule 'a/x' covers no parameter"):
        multipliers(["a/x"], ((r"a/.*", 1.0), (r"a/x", None)))


def test_a_pattern_covers_whole_names_only():
    with pytest.raises(ValueError, match="no rule covers unet/conv_in/kernel"):
        multipliers(["unet/conv_in/kernel"], ((r"unet/conv_in", 1.0),))


def test_unknown_settings():
    with pytest.raises(ValueError, match=r"'half'.*locked, unlocked, full"):
        stage_rules("half", 1.0)
    with pytest.raises(ValueError, match=r"'encoder'.*decoder, all"):
        vae_rules("encoder")


def test_the_table_counts_tensors_and_parameters():
    flat = {"a/x": np.zeros((1000, 10)), "a/y": np.zeros(500_000), "b/x": np.zeros(2_000_000)}
    first, second = table(flat, ((r"b/.*", 0.2), (r".*", None))).splitlines()
    assert first.split() == ["b/.*", "lr", "x", "0.2", "1", "tensors", "2.00", "M"]
    assert second.split() == [".*", "frozen", "2", "tensors", "0.51", "M"]


def test_flatten_and_assemble_are_inverse():
    models = {"one": nnx.Linear(2, 3, rngs=nnx.Rngs(0)), "two": nnx.Linear(3, 1, rngs=nnx.Rngs(1))}
    structures, flat = flatten(models)
    assert flat.keys() == {"one/kernel", "one/bias", "two/kernel", "two/bias"}
    again = assemble(structures, {**flat, "one/bias": jnp.ones(3)})
    x = jnp.ones((1, 2))
    np.testing.assert_array_equal(again["one"](x), models["one"](x) + 1)
    np.testing.assert_array_equal(again["two"].kernel[...], models["two"].kernel[...])
