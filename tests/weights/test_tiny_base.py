"""The base that the package ships: small, readable by diffusers, of Stable Diffusion 1.5's shape."""

import numpy as np
import pytest
from torch_reference import diffusers

from svp_jax.capture.synthetic_looks import describe, random_look, random_scene, vocabulary
from svp_jax.weights.base import TINY_BASE, load_base


@pytest.fixture(scope="module")
def folder():
    if not (TINY_BASE / "model_index.json").is_file():
        pytest.skip(f"the tiny base has not been trained: {TINY_BASE} is not there")
    return TINY_BASE


@pytest.fixture(scope="module")
def base(folder):
    return load_base("tiny")


def test_it_is_small(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 20e6


def test_it_opens_in_diffusers_as_the_same_networks(folder, base):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size
    assert pipeline.scheduler.config.prediction_type == base.scheduler_config["prediction_type"]
    text = "a portrait of a woman"
    assert pipeline.tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]


def test_it_has_the_blocks_of_stable_diffusion_1_5(base):
    unet, vae, text = base.unet.config, base.vae.config, base.text_encoder.config
    assert unet.down_block_types == (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D")
    assert unet.layers_per_block == 2 and len(unet.block_out_channels) == 4
    assert unet.in_channels == unet.out_channels == 4
    assert vae.factor == 8 and vae.layers_per_block == 2 and vae.latent_channels == 4
    assert text.num_hidden_layers == 12 and text.max_position_embeddings == 77


def test_every_word_of_a_caption_is_one_token(base):
    # CLIP splits at signs, so "t-shirt" is three tokens.
    for word in filter(str.isalpha, vocabulary()):
        assert len(base.tokenizer(word)["input_ids"]) == 3, f"{word!r}: begin, one token, end"
    rng = np.random.default_rng(0)
    for seed in range(50):
        caption = describe(random_look(rng), random_scene(rng), seed)
        assert base.tokenizer.unk_token_id not in base.tokenizer(caption)["input_ids"][1:-1], caption
