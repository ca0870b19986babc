"""Rematerialisation changes what is kept, not what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import UNET, random_model

from svp_jax.models import UNetConfig
from svp_jax.models.unet import MidBlock
from svp_jax.training.step.remat import rematerialise
from svp_jax.training.step.trainable import assemble, flatten

INPUTS = (
    np.random.default_rng(0).standard_normal((2, 8, 8, UNET["block_out_channels"][-1])).astype(np.float32),
    np.random.default_rng(1).standard_normal((2, 4 * UNET["block_out_channels"][0])).astype(np.float32),
    np.random.default_rng(2).standard_normal((2, 77, UNET["cross_attention_dim"])).astype(np.float32),
)


@pytest.fixture(scope="module")
def block():
    """Structures and parameters of resnet, transformer, resnet."""

    def make(config, *, rngs, dtype=jnp.float32):
        return MidBlock(config, rngs=rngs, dtype=dtype)

    return flatten({"mid": random_model(make, UNetConfig.from_json(UNET), np.random.default_rng(3))})


def run(block, policy: str):
    """(output, gradients, bytes that are kept for the backward pass but for the parameters)."""
    structures, flat = block

    def call(flat):
        models = assemble(structures, flat)
        rematerialise(models["mid"], policy)
        return models["mid"](*INPUTS)

    output, backward = jax.vjp(call, flat)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(backward)) - sum(leaf.nbytes for leaf in flat.values())
    return output, backward(jnp.ones_like(output))[0], kept


def test_outputs_and_gradients_are_the_same_and_less_is_kept(block):
    output, gradients, everything = run(block, "none")
    kept = {}
    for policy in ("light", "full"):
        ours, our_gradients, kept[policy] = run(block, policy)
        np.testing.assert_allclose(ours, output, atol=1e-6)
        for name, gradient in gradients.items():
            # Compiled otherwise, a sum may go in another order.
            np.testing.assert_allclose(our_gradients[name], gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())
    print(f"kept for the backward pass: {everything} bytes, light {kept['light']}, full {kept['full']}")
    assert kept["full"] < 0.5 * kept["light"] < 0.5 * everything
    # The inputs of three blocks: pictures, time and text.
    assert kept["full"] <= 3 * sum(x.nbytes for x in INPUTS)
