"""Single files: recognised, opened as they were saved, and refused with what they are."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
import torch_reference as reference
from safetensors.numpy import load_file, save_file
from torch_reference import torch

from svp_jax.diffusion.schedule import ddim_settings
from svp_jax.errors import UserError
from svp_jax.weights.families import SCHEDULER
from svp_jax.weights.folder import open_model
from svp_jax.weights.single_file import open_single_file, write_single_file

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
# Of the training code, as real checkpoints hold them.
LEFT_OVER = {
    "betas": np.zeros(1000, np.float32),
    "alphas_cumprod_prev": np.zeros(1000, np.float32),
    "sqrt_recipm1_alphas_cumprod": np.zeros(1000, np.float32),
    "posterior_mean_coef2": np.zeros(1000, np.float32),
    "model_ema.decay": np.zeros((), np.float32),
    "model_ema.num_updates": np.zeros((), np.int32),
    "first_stage_model.loss.logvar": np.zeros((), np.float32),
    "cond_stage_model.text_projection": np.zeros((2, 2), np.float32),
    "embedding_manager.x": np.zeros(1, np.float32),
    "scale_factor": np.zeros((), np.float32),
}


def as_torch(tensors):
    bits = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return {
        name: torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        if value.dtype == ml_dtypes.bfloat16
        else torch.from_numpy(value)
        for name, value in bits.items()
    }


def assert_same(component, module, dtype=np.float32):
    state = module.state_dict()
    found = {name.removeprefix("text_model."): tensor.read() for name, tensor in component.tensors.items()}
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], value.numpy().astype(dtype), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["model.safetensors", "model.ckpt", "old.ckpt", "bare.pth"])
def test_a_checkpoint_opens_bit_by_bit(checkpoint, networks, family, tmp_path, dtype, kind):
    tensors = {name: value.astype(DTYPES[dtype]) for name, value in checkpoint.items()} | LEFT_OVER
    path = tmp_path / kind
    if kind == "model.safetensors":
        save_file(tensors, path)
    elif kind == "bare.pth":
        torch.save(as_torch(tensors), path)
    else:
        content = {"state_dict": as_torch(tensors), "global_step": 3, "lr_schedulers": [{"last_epoch": 2}]}
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old.ckpt")
    file = open_single_file(path)
    assert file.components.keys() == {"unet", "vae", "text_encoder"}
    for name, component in file.components.items():
        assert_same(component, networks[name], DTYPES[dtype])
    assert file.family.name == {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x"}[family]
    assert f"UNet in {dtype}" in file.description and file.ema is None


def test_configs_are_told_from_the_shapes(checkpoint, original, networks, tmp_path):
    """All that has an effect on the output is as in the reference's own config."""
    control = {"control_model." + name: value for name, value in original["control_model."].items()}
    save_file(checkpoint | control, tmp_path / "model.safetensors")
    save_file(control, tmp_path / "controlnet.safetensors")
    whole = open_single_file(tmp_path / "model.safetensors", prediction="epsilon").components
    alone = open_single_file(tmp_path / "controlnet.safetensors").components
    assert alone["controlnet"].config == whole["controlnet"].config
    for name, network in networks.items():
        folder = reference.saved(network, tmp_path / name)
        theirs, ours = open_model(folder).config, whole[name].config
        aside = {"sample_size", "pad_token_id", "bos_token_id", "eos_token_id"}
        for key, value in vars(theirs).items():
            assert key in aside or getattr(ours, key) == value, (name, key)


def averages(checkpoint):
    """The running averages as the training code calls them, each a little off the last weights."""
    prefix = "model.diffusion_model."
    return {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + np.float32(1)
        for name, value in checkpoint.items()
        if name.startswith(prefix)
    }


def test_running_averages_are_taken_on_demand(checkpoint, networks, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(checkpoint | averages(checkpoint) | LEFT_OVER, path)
    last, averaged = open_single_file(path), open_single_file(path, ema=True)
    assert (last.ema, averaged.ema) == (False, True)
    assert "last weights, the averaged ones lie beside" in last.description
    assert "averaged weights, the last ones lie beside" in averaged.description
    assert_same(last.components["unet"], networks["unet"])
    for name, tensor in averaged.components["unet"].tensors.items():
        np.testing.assert_array_equal(tensor.read(), networks["unet"].state_dict()[name].numpy() + np.float32(1))
    save_file(checkpoint, path)
    with pytest.raises(UserError, match=r"--ema: .* holds no running average"):
        open_single_file(path, ema=True)
    some = averages(checkpoint)
    some.pop("model_ema.diffusion_modelout2bias")
    save_file(checkpoint | some, path)
    with pytest.raises(UserError, match=r"missing tensors: out\.2\.bias$"):
        open_single_file(path, ema=True)


def test_variants_of_the_text_encoder(checkpoint, networks, family, tmp_path):
    """Without `text_model.`, with a position buffer (1.x); with the layer and projection that are not used (2.x)."""
    path = tmp_path / "model.safetensors"
    if family == "sd1":
        prefix = "cond_stage_model.transformer."
        tensors = {name.replace("text_model.", ""): value for name, value in checkpoint.items()}
        save_file(tensors | {prefix + "embeddings.position_ids": np.arange(77)[None]}, path)
    else:
        prefix = "cond_stage_model.model."
        last = {
            name.replace(".0.", ".23."): value
            for name, value in checkpoint.items()
            if name.startswith(prefix + "transformer.resblocks.0.")
        }
        projection = {prefix + "text_projection": np.eye(128), prefix + "logit_scale": np.float64([1])}
        save_file(checkpoint | last | projection, path)
    assert_same(open_single_file(path).components["text_encoder"], networks["text_encoder"])


@pytest.mark.parametrize("name", ["unet", "vae", "controlnet"])
def test_a_file_of_a_diffusers_folder_needs_its_config(networks, tmp_path, name):
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({key: value.numpy() for key, value in networks[name].state_dict().items()}, path)
    with pytest.raises(UserError, match=r"safetensors: it is of a diffusers folder, .*give the folder as SOURCE"):
        open_single_file(path)


def test_one_network_alone_predicts_nothing(base_folder, tmp_path):
    """Only a whole checkpoint has a schedule."""
    write_single_file(tmp_path / "unet.safetensors", {"unet": open_model(base_folder / "unet")}, None, {})
    file = open_single_file(tmp_path / "unet.safetensors")
    assert file.scheduler is None and "predicts" not in file.description


@pytest.mark.parametrize("channels", [3, 12])
@pytest.mark.parametrize("kind", ["with the base", "prefix", "bare"])
def test_controlnets(checkpoint, original, networks, tmp_path, kind, channels):
    tensors = dict(original["control_model."])
    tensors["input_hint_block.0.weight"] = tensors["input_hint_block.0.weight"][:, :channels]
    path = tmp_path / "controlnet.safetensors"
    prefix = "" if kind == "bare" else "control_model."
    tensors = {prefix + name: value for name, value in tensors.items()}
    save_file(tensors | (checkpoint if kind == "with the base" else {}), path)
    file = open_single_file(path)
    component = file.components["controlnet"]
    assert (len(file.components) == 4) == (kind == "with the base")
    assert component.config.conditioning_channels == channels
    assert component.config.conditioning_embedding_out_channels == (16, 32, 96, 256)
    assert f"ControlNet of {channels} condition channels" in file.description
    if channels == 12:
        assert_same(component, networks["controlnet"])


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_alone(original, networks, tmp_path, prefix):
    tensors = {prefix + name: value for name, value in original["first_stage_model."].items()}
    discriminator = {"loss.discriminator.main.0.weight": np.zeros(3, np.float32), "model_ema.decay": np.float32([1])}
    save_file(tensors | discriminator, tmp_path / "vae.safetensors")
    file = open_single_file(tmp_path / "vae.safetensors")
    assert file.components.keys() == {"vae"} and file.scheduler is None
    assert_same(file.components["vae"], networks["vae"])


def test_what_a_checkpoint_of_2x_predicts(checkpoint, family, tmp_path):
    """Told from one bias, as ComfyUI does; a marker in the file and the flag come first."""
    path = tmp_path / "model.safetensors"
    tells = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    wide = np.linspace(-0.2, 0.2, checkpoint[tells].size, dtype=np.float32)
    guessed = {}
    for name, bias in (("epsilon", wide / 4), ("v_prediction", wide)):
        save_file(checkpoint | {tells: bias}, path)
        guessed[name] = open_single_file(path)
    if family == "sd1":
        assert {file.scheduler["prediction_type"] for file in guessed.values()} == {"epsilon"}
    else:
        for name, file in guessed.items():
            assert file.scheduler["prediction_type"] == name
            assert f"predicts {name} (guessed from the weights" in file.description
        assert guessed["v_prediction"].components["unet"].config.sample_size == 96
        assert guessed["v_prediction"].components["unet"].config.upcast_attention
        assert guessed["epsilon"].components["unet"].config.sample_size == 64
    said = open_single_file(path, prediction="epsilon")
    assert said.scheduler["prediction_type"] == "epsilon" and "as --prediction says" in said.description
    save_file(checkpoint | {"v_pred": np.zeros(0, np.float32), "ztsnr": np.zeros(0, np.float32)}, path)
    marked = open_single_file(path).scheduler
    assert (marked["prediction_type"], marked["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert marked["timestep_spacing"] == "trailing"


def test_what_is_written_comes_back_as_it_was(base_folder, networks, family, tmp_path):
    """Configs that a file cannot show lie in its header."""
    components = {name: open_model(base_folder / name) for name in ("unet", "vae", "text_encoder")}
    scheduler = ddim_settings(SCHEDULER | {"prediction_type": "v_prediction"})
    write_single_file(tmp_path / "model.safetensors", components, scheduler, {"note": "kept"})
    file = open_single_file(tmp_path / "model.safetensors")
    assert file.family.pad_token == {"sd1": "<|endoftext|>", "sd2": "!"}[family]
    assert file.scheduler == scheduler and file.texts["note"] == "kept"
    for name, component in components.items():
        assert file.components[name].config == component.config
        assert_same(file.components[name], networks[name])


def empty(*names):
    return {name: np.zeros((2, 2), np.float32) for name in names}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (empty("lora_unet_down_blocks_0.lora_up.weight"), "is a LoRA"),
        (empty("unet.down_blocks.0.attn1.to_q.lora_A.weight"), "is a LoRA"),
        (empty("conditioner.embedders.1.model.ln_final.weight", "model.diffusion_model.out.0.bias"), "Diffusion XL"),
        (empty("model.diffusion_model.label_emb.0.0.weight"), "an SDXL, unCLIP or upscaling model"),
        (empty("unet.mid_block.attn1.processor.to_q_lora.down.weight"), "is a LoRA"),
        (empty("single_transformer_blocks.3.attn.to_q.weight"), "is a diffusion transformer"),
        (empty("body.0.block1.weight"), "is a T2I-Adapter"),
        (empty("model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight"), "is Stable Diffusion 3"),
        (empty("double_blocks.0.img_attn.norm.key_norm.scale"), "is FLUX"),
        (empty("model.layers.0.self_attn.q_proj.weight"), "is a text model"),
        (empty("transformer.h.0.attn.c_attn.weight"), "is a text model"),
        (empty("text_model.encoder.layers.0.mlp.fc1.bias"), "is a text encoder alone"),
        (empty("emb_params"), "is a textual inversion embedding"),
        (empty("down_blocks.0.motion_modules.0.temporal_transformer.norm.bias"), "a motion module of AnimateDiff"),
        (empty("ip_adapter.1.to_k_ip.weight"), "is an IP-Adapter"),
        (empty("something.else", "a.b"), r"is no Stable Diffusion, VAE or ControlNet; it begins with a\.b, something"),
    ],
)
def test_other_files_are_named(tmp_path, tensors, message):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    with pytest.raises(UserError, match=message) as caught:
        open_single_file(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("channels", "message"), [(9, "is an inpainting model"), (8, "is an InstructPix2Pix model")])
def test_other_inputs_are_named(checkpoint, tmp_path, channels, message):
    first = "model.diffusion_model.input_blocks.0.0.weight"
    wide = np.zeros((checkpoint[first].shape[0], channels, 3, 3), np.float32)
    save_file(checkpoint | {first: wide}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        open_single_file(tmp_path / "model.safetensors")


def test_every_kind_of_misfit_is_named(checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    missing, misshapen = "model.diffusion_model.out.2.bias", "model.diffusion_model.out.0.bias"
    tensors = {name: value for name, value in checkpoint.items() if name != missing}
    tensors |= {misshapen: np.zeros(3, np.float32), "model.diffusion_model.more.weight": np.zeros(1, np.float32)}
    save_file(tensors, path)
    with pytest.raises(UserError) as caught:
        open_single_file(path)
    message = str(caught.value)
    assert re.search(
        r"unknown tensors: more\.weight; missing tensors: out\.2\.bias; misshapen tensors: out\.0\.bias is", message
    )
    save_file(checkpoint | {"stray": np.zeros(1, np.float32)}, path)
    with pytest.raises(UserError, match="tensors that belong to no network: stray"):
        open_single_file(path)
    save_file(checkpoint | {"model.diffusion_model.out.0.bias": np.zeros(checkpoint[misshapen].shape, np.int8)}, path)
    with pytest.raises(UserError, match=r"not floating point: out\.0\.bias is int8"):
        open_single_file(path)


def test_two_text_encoders_are_refused(checkpoint, tmp_path):
    both = {f"cond_stage_model.{name}.x.weight": np.zeros(1, np.float32) for name in ("model", "transformer")}
    save_file({k: v for k, v in checkpoint.items() if "cond_stage" not in k} | both, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds two text encoders"):
        open_single_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (4,)),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (4,)),
        ("model.diffusion_model.input_blocks.7.0.out_layers.3.weight", None),
        ("first_stage_model.post_quant_conv.weight", ()),
    ],
)
def test_a_tensor_that_tells_the_architecture_is_named(checkpoint, tmp_path, name, shape):
    """Missing, or of too few axes."""
    tensors = {key: value for key, value in checkpoint.items() if key != name}
    if shape is not None:
        tensors[name] = np.zeros(shape, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    own_name = re.escape(re.sub(r"^(model\.diffusion_model|first_stage_model)\.", "", name))
    with pytest.raises(UserError, match=rf"model\.safetensors: (it has no )?{own_name}"):
        open_single_file(tmp_path / "model.safetensors")


def test_names_of_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_single_file(tmp_path / "model.safetensors")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"model\.gguf: the name of a file of weights ends in \.safetensors, \.ckpt"):
        open_single_file(tmp_path / "model.gguf")


def test_a_header_that_was_edited(base_folder, tmp_path):
    path = tmp_path / "vae.safetensors"
    write_single_file(path, {"vae": open_model(base_folder / "vae")}, None, {})
    file = open_single_file(path)
    texts = dict(file.texts)
    texts["svp_jax.configs"] = json.dumps({"vae": {"block_out_channels": "wide"}})
    tensors = load_file(path)
    save_file(tensors, path, metadata=texts)
    with pytest.raises(UserError, match=r"vae\.safetensors: .*block_out_channels is 'wide'"):
        open_single_file(path)
    for text in ("{", "[]"):
        save_file(tensors, path, metadata=texts | {"svp_jax.configs": text})
        with pytest.raises(UserError, match=r"vae\.safetensors: the text svp_jax\.configs in its header is no JSON"):
            open_single_file(path)
