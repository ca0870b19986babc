"""The tiny base's networks and tokenizer: Stable Diffusion 1.5's topology, narrow."""

import json
from collections.abc import Sequence
from pathlib import Path

from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from svp_jax.capture.synthetic.looks import vocabulary
from svp_jax.models import VAE, ControlNet, TextEncoder, TextEncoderConfig, UNet, UNetConfig, VAEConfig
from svp_jax.models.controlnet import controlnet_from_unet
from svp_jax.weights import families
from svp_jax.weights.convert import model_index

TEXT_WIDTH = 64
# Every head has 32 channels, as in SD 2: attention over 1024 pixels costs by the head on a CPU.
UNET = {
    "sample_size": 32,
    "block_out_channels": [32, 64, 96, 96],
    "attention_head_dim": [1, 2, 3, 3],
    "cross_attention_dim": TEXT_WIDTH,
    "norm_num_groups": 16,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
VAE_ = {
    "sample_size": 256,
    "block_out_channels": [16, 32, 64, 64],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
# Stable Diffusion's (16, 32, 96, 256), no wider than the first level that they end in.
HINT_CHANNELS = (16, 32, 32, 32)
CONDITION_CHANNELS = 9  # of both stages
TEXT = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
}
# v prediction, zero terminal SNR and trailing steps (arXiv 2305.08891): a small network trained for an hour cannot
# recover colours from an epsilon at the noisiest steps, and renders need few steps.
SCHEDULER = families.SCHEDULER | {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}
MODEL_INDEX = model_index(has_controlnet=True)


def make_tokenizer(folder: Path, extra_words: Sequence[str]) -> CLIPTokenizer:
    """Learns a byte-pair encoding in which each caption word is one token, and writes it in CLIP's format."""
    words = [*vocabulary(), *extra_words]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    # CLIP's order: every byte, every byte at a word's end, the merges, the two special tokens.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "<|endoftext|>"}  # fmt: skip
    _write(folder / "special_tokens_map.json", special)
    _write(folder / "tokenizer_config.json",
           {**special, "model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer",
            "add_prefix_space": False})  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    # CLIP splits at signs, so "t-shirt" is three tokens.
    split = [word for word in words if word.isalpha() and len(tokenizer(word)["input_ids"]) != 3]
    if split:
        raise ValueError(f"words that are more than one token: {split}")
    return tokenizer


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def make_unet(seed: int) -> UNet:
    """A new UNet for latents [B,h,w,4], h and w multiples of 8."""
    return UNet(UNetConfig.from_json(UNET), rngs=nnx.Rngs(seed))


def make_controlnet(unet: UNet, seed: int) -> ControlNet:
    """A ControlNet that starts as the UNet's encoder, for conditions [B,8h,8w,CONDITION_CHANNELS] in [0,1]."""
    return controlnet_from_unet(unet, CONDITION_CHANNELS, nnx.Rngs(seed), HINT_CHANNELS)


def make_vae(seed: int, scaling_factor: float) -> VAE:
    """A new VAE for images [B,8h,8w,3] in [-1,1]; `scaling_factor` is what its latents [B,h,w,4] are multiplied by."""
    return VAE(VAEConfig.from_json({**VAE_, "scaling_factor": scaling_factor}), rngs=nnx.Rngs(seed))


def make_text_encoder(seed: int, tokenizer: CLIPTokenizer) -> TextEncoder:
    """A new text encoder, from the tokenizer's ids [B,77] to features [B,77,TEXT_WIDTH]."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    return TextEncoder(TextEncoderConfig.from_json({**TEXT, "vocab_size": len(tokenizer), **ids}), rngs=nnx.Rngs(seed))
