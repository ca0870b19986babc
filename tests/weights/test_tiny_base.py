"""The base that the package ships: small, readable by diffusers, of Stable Diffusion 1.5's shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from torch_reference import diffusers, torch, transformers

from svp_jax.capture.synthetic.head import render_head
from svp_jax.capture.synthetic.looks import describe, random_look, random_scene, vocabulary
from svp_jax.capture.synthetic.motion import random_motion
from svp_jax.diffusion import Schedule, TemporalWeights, guide, sample_sequence
from svp_jax.face.conditions import details_condition
from svp_jax.metrics.image import psnr
from svp_jax.models.codec import decode_images, encode_images
from svp_jax.training.stage import stage_loss
from svp_jax.weights.base import TINY_BASE, encode_prompts, load_base

# A mean PSNR in dB and a ratio of losses; the shipped weights have 25.87 and 0.63.
ROUND_TRIP = 25.0
FOLLOWED = 0.68


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
    assert pipeline.scheduler.config.prediction_type == base.scheduler_config.prediction_type
    text = "a portrait of a woman"
    assert pipeline.tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]


def test_diffusers_gives_the_same_outputs(folder, base):
    """Of the shipped weights, through both loaders; random ones are compared layer by layer in tests/models."""
    rng = np.random.default_rng(0)
    sample, condition = (rng.standard_normal((1, 16, 16, 4)), rng.uniform(0, 1, (1, 128, 128, 9)))
    ids = base.tokenizer("a portrait of Velmora", padding="max_length", max_length=77)["input_ids"]

    text_encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    controlnet = diffusers.ControlNetModel.from_pretrained(folder / "controlnet", torch_dtype=torch.float32)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    latent, hint = (torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32) for x in (sample, condition))
    text = text_encoder(torch.tensor([ids])).last_hidden_state
    down, mid = controlnet(latent, 500, text, controlnet_cond=hint, return_dict=False)
    output = unet(latent, 500, text, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    expected = output.numpy().transpose(0, 2, 3, 1), vae.decode(latent).sample.numpy().transpose(0, 2, 3, 1)

    @jax.jit
    def ours(sample, condition):
        features = base.text_encoder(jnp.array([ids]))
        down, mid = base.controlnet(sample, jnp.array([500]), features, condition)
        return base.unet(sample, jnp.array([500]), features, down, mid), base.vae.decode(sample)

    for found, wanted in zip(ours(sample.astype(np.float32), condition.astype(np.float32)), expected, strict=True):
        assert np.abs(found - wanted).max() / wanted.std() < 1e-4


@pytest.fixture(scope="module")
def heads():
    """Pictures and conditions of people that the base has not seen: its own were drawn from other seeds."""
    images = []
    for number in range(16):
        rng = np.random.default_rng((1000, number))
        images.append(render_head(random_look(rng), random_motion(rng), random_scene(rng), 128))
    return images


def test_its_vae_keeps_unseen_heads(base, heads):
    frames = np.stack([head.frame for head in heads])
    mean, _ = encode_images(base.vae, lambda numbers: frames[numbers], np.arange(len(frames)))
    again = decode_images(base.vae, mean)
    found = np.mean([psnr(a / 255, b / 255) for a, b in zip(again, frames, strict=True)])
    assert found > ROUND_TRIP, f"{found:.2f} dB"


def test_its_controlnet_is_followed(base, heads):
    """The prediction at strong noise is better under a picture's own conditions than under another's."""
    drawn = [(head.parsing, head.geometry, head.iris) for head in heads]
    condition = details_condition(*map(np.stack, zip(*drawn, strict=True)))
    frames = np.stack([head.frame for head in heads])
    mean, std = encode_images(base.vae, lambda numbers: frames[numbers], np.arange(len(frames)))
    text = encode_prompts(base, [""])[0]
    config = base.scheduler_config
    loss_of = stage_loss(config, base.vae.config.scaling_factor, 5.0, None)
    graph, parameters = nnx.split({"unet": base.unet, "controlnet": base.controlnet})

    @jax.jit
    def measure(parameters, batch):
        return loss_of(nnx.merge(graph, parameters), batch, jax.random.split(jax.random.key(0), len(heads)))

    batch = {"mean": mean, "std": std, "text": np.broadcast_to(text, (len(heads), *text.shape))}
    own, others = (measure(parameters, {**batch, "condition": c}) for c in (condition, np.roll(condition, 1, axis=0)))
    assert own < FOLLOWED * others, f"{own:.4f} against {others:.4f}"


def test_its_texts_set_the_background(base):
    """The named colour's channel is the strongest in the picture's upper corners."""
    colors = ("red", "green", "blue")
    text = encode_prompts(base, [""] * 3 + [f"a portrait of a woman, {color} background" for color in colors])
    schedule = Schedule.from_config(base.scheduler_config, 8)
    graph, parameters = nnx.split((base.unet, base.vae))

    @jax.jit
    def draw(parameters, text):
        unet, vae = nnx.merge(graph, parameters)

        def predict(latent, timestep, _):
            return unet(latent, jnp.full(len(latent), timestep), text)

        noise = jax.random.normal(jax.random.key(0), (1, 3, 16, 16, 4))
        latents, _ = sample_sequence(guide(predict, 3.0), schedule, noise, None, TemporalWeights.plain())
        return vae.decode(latents[0] / vae.config.scaling_factor)

    images = np.asarray(draw(parameters, text))
    corners = np.concatenate([images[:, :24, :24], images[:, :24, -24:]], axis=2).mean(axis=(1, 2))
    assert corners.argmax(axis=1).tolist() == [0, 1, 2], corners


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
