"""A base folder as diffusers' own pipeline saves it, and what is said where something in it is wrong."""

import json
import shutil

import pytest
import torch_reference as reference
from factories import make_tokenizer
from safetensors.numpy import load_file, save_file
from torch_reference import difference, diffusers, transformers

from svp_jax.errors import UserError
from svp_jax.weights.base import encode_prompts, load_base

WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT = reference.TEXT1 | {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pipeline of diffusers, and the folder into which it saved itself."""
    folder = tmp_path_factory.mktemp("base")
    pipeline = diffusers.StableDiffusionPipeline(
        vae=reference.vae(),
        text_encoder=reference.text_encoder(TEXT),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(make_tokenizer(folder / "own_tokenizer")),
        unet=reference.unet(reference.SD1),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, set_alpha_to_one=False, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "base")
    return pipeline, folder / "base"


@pytest.fixture(scope="module")
def base(saved):
    return load_base(saved[1])


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[1], tmp_path / "base")


def test_prompts_are_encoded_as_by_the_pipeline(saved, base, record_property):
    pipeline, _ = saved
    prompts = ["", "a portrait of ZED, smiling", "x" * 75]
    theirs, _ = pipeline.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=False)
    features = encode_prompts(base, prompts)
    assert features.shape == (3, 77, 24)
    figure = difference(features, theirs)
    record_property("difference", figure)
    assert figure <= 1e-4


def test_a_long_prompt_is_refused_with_its_length(base):
    with pytest.raises(UserError, match=r"'x{40}'.*76 tokens, allowed are 75"):
        encode_prompts(base, ["short", "x" * 76])


def test_scheduler_and_tokenizer_come_from_the_folder(base):
    assert base.scheduler_config.steps_offset == 1 and base.tokenizer.pad_token_id == 513


def test_pad_token_of_sd2(copy):
    """SD 2.x pads with "!" (id 0), which its special_tokens_map.json says and its tokenizer_config.json does not."""
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **tokens, "pad_token": "<|endoftext|>"}
    shutil.rmtree(copy / "tokenizer")
    make_tokenizer(copy / "tokenizer")
    (copy / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    (copy / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(tokens | {"pad_token": "!"}))
    assert load_base(copy).tokenizer.pad_token_id == 0


def test_clip_tokenizer_of_sd1(shared):
    from svp_jax.weights.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(shared / "tokenizer")
    ids = tokenizer(["a photo of an astronaut riding a horse"])["input_ids"][0]
    assert ids == [49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 49407] and tokenizer.pad_token_id == 49407


def test_hash_is_over_the_used_files(base, copy):
    (copy / "safety_checker").mkdir()
    (copy / "safety_checker" / "model.safetensors").write_bytes(b"not looked at")
    assert load_base(copy).sha256 == base.sha256
    # Variants that a download brings along are not in use either.
    for name in ("non_ema", "fp16"):
        shutil.copy(copy / "unet" / WEIGHTS, (copy / "unet" / WEIGHTS).with_suffix(f".{name}.safetensors"))
    assert load_base(copy).sha256 == base.sha256
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text() + "\n")
    assert load_base(copy).sha256 != base.sha256


def test_hash_follows_the_weights(base, copy):
    path = copy / "vae" / WEIGHTS
    tensors = load_file(path)
    tensors["quant_conv.bias"] = tensors["quant_conv.bias"] + 1
    save_file(tensors, path)
    assert load_base(copy, networks=()).sha256 != base.sha256


def test_only_the_networks_that_are_asked_for_are_loaded(copy):
    opened = load_base(copy, networks=("vae",))
    assert opened.unet is None and opened.text_encoder is None and opened.vae is not None
    # Of what is not loaded the names and shapes are checked all the same.
    (copy / "unet" / WEIGHTS).write_bytes(b"broken")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_base(copy, networks=("vae",))


def shorten_vae(base):
    names = ("block_out_channels", "down_block_types", "up_block_types")
    shorter = reference.VAE | {name: reference.VAE[name][:2] for name in names}
    shutil.rmtree(base / "vae")
    reference.saved(reference.randomize(diffusers.AutoencoderKL(**shorter)), base / "vae")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: shutil.rmtree(base), "no such folder"),
        (lambda base: shutil.rmtree(base / "vae"), "it has no vae folder"),
        (lambda base: (base / "tokenizer" / "tokenizer.json").unlink(), "neither vocab.json"),
        (lambda base: (base / "tokenizer" / "tokenizer.json").write_text("{"), "not a readable CLIP tokenizer"),
        (lambda base: (base / "scheduler" / "scheduler_config.json").unlink(), "scheduler_config.json: cannot read"),
        (lambda base: swap(base / "unet", base / "vae"), "unet holds a VAE, it must hold a UNet"),
        (lambda base: replace_text(base, {"hidden_size": 48}), "expects text features of 24 channels.*makes 48"),
        (lambda base: replace_text(base, {"vocab_size": 500}), "knows 514 tokens, the text_encoder 500"),
        (lambda base: replace_unet(base, {"in_channels": 9}), "takes 9 channels and gives 4.*have 4"),
        (shorten_vae, "one latent of the vae stands for 2 x 2 pixels.* needs the 8 x 8"),
    ],
)
def test_what_is_wrong_with_a_base_is_said_in_one_line(copy, spoil, message):
    spoil(copy)
    with pytest.raises(UserError, match=message) as caught:
        load_base(copy)
    assert str(copy) in str(caught.value) and "\n" not in str(caught.value)


def test_a_base_may_bring_a_controlnet(copy, base):
    """As StableDiffusionControlNetPipeline saves it: in a folder of its own, beside the unet."""
    assert base.controlnet is None
    reference.controlnet(reference.SD1).save_pretrained(copy / "controlnet")
    opened = load_base(copy)
    assert opened.controlnet.config.conditioning_channels == 9 and opened.sha256 != base.sha256
    assert load_base(copy, networks=("vae",)).controlnet is None
    reference.controlnet(reference.SD1 | {"layers_per_block": 1}).save_pretrained(copy / "controlnet")
    with pytest.raises(UserError, match="controlnet is not built like the unet's encoder"):
        load_base(copy)


def swap(first, second):
    shutil.rmtree(first)
    shutil.copytree(second, first)


def replace_text(base, change):
    reference.saved(reference.text_encoder(TEXT | change), base / "text_encoder")


def replace_unet(base, change):
    reference.saved(reference.unet(reference.SD1 | change), base / "unet")
