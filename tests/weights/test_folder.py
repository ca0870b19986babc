"""Model folders: both ways through the real libraries, other names and number types, and every kind of misfit."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference as reference
from factories import file_size_limit
from flax import nnx
from safetensors.numpy import load_file, save_file
from torch_reference import difference, diffusers, to_torch, torch

import svp_jax
from svp_jax.errors import UserError

VAE_FILE, TEXT_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each kind of model as its own library saves it, and the model."""
    root = tmp_path_factory.mktemp("models")
    models = {
        "unet1": reference.unet(reference.SD1),
        "unet2": reference.unet(reference.SD2),
        "controlnet": reference.controlnet(reference.SD2),
        "vae": reference.vae(),
        "text": reference.text_encoder(reference.TEXT1),
    }
    return {name: (reference.saved(model, root / name), model) for name, model in models.items()}


@pytest.fixture
def vae_folder(folders, tmp_path):
    """A copy of the VAE's folder to spoil."""
    return shutil.copytree(folders["vae"][0], tmp_path / "vae")


@pytest.fixture
def text_folder(folders, tmp_path):
    return shutil.copytree(folders["text"][0], tmp_path / "text")


def edit(path, change):
    """Lets `change` work on the dictionary of the file's tensors."""
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def assert_same_parameters(first, second):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(first), nnx.state(second))


@pytest.mark.parametrize("name", ["unet1", "unet2", "controlnet", "vae", "text"])
def test_what_we_save_is_what_its_own_library_saved(folders, tmp_path, name):
    """Same names, shapes and values, so the same output; their own loader finds all it needs."""
    folder, model = folders[name]
    svp_jax.save_model(svp_jax.load_model(folder), tmp_path)
    opened, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, opened.state_dict()[key]), key
    config, again = dict(model.config.to_dict() if name == "text" else model.config), opened.config
    for key, value in config.items():
        if not key.startswith("_") and key not in ("dtype", "architectures", "transformers_version"):
            ours = getattr(again, key)
            assert (list(ours) if isinstance(ours, tuple) else ours) == (
                list(value) if isinstance(value, tuple) else value
            ), key


def test_a_model_changed_here_gives_the_same_output_there(folders, tmp_path):
    """As after training: parameters that no library has saved before."""
    vae = svp_jax.load_model(folders["vae"][0])

    def noisy(x):
        return x + 0.05 * np.random.default_rng(0).standard_normal(x.shape, np.float32)

    nnx.update(vae, jax.tree.map(noisy, nnx.state(vae)))
    svp_jax.save_model(vae, tmp_path)
    image = np.random.default_rng(1).uniform(-1, 1, (1, 32, 64, 3)).astype(np.float32)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path).encode(to_torch(image)).latent_dist.mean
    assert difference(nnx.jit(lambda v, x: v.encode(x)[0])(vae, image), theirs) <= 1e-4


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_files_load_as_float32(folders, tmp_path, kind):
    torch_model = reference.text_encoder(reference.TEXT1).to(getattr(torch, kind))
    model = svp_jax.load_model(reference.saved(torch_model, tmp_path))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {np.dtype(np.float32)}
    expected = torch_model.state_dict()["encoder.layers.1.mlp.fc1.weight"].float().numpy().T
    np.testing.assert_array_equal(model.layers[1].fc1.kernel[...], expected)


def test_float16_variant_is_taken_where_it_is_alone(vae_folder):
    (vae_folder / VAE_FILE).rename(vae_folder / "diffusion_pytorch_model.fp16.safetensors")
    svp_jax.load_model(vae_folder)


def test_save_as_float16(folders, tmp_path):
    model = svp_jax.load_model(folders["text"][0])
    svp_jax.save_model(model, tmp_path, jnp.float16)
    assert {value.dtype for value in load_file(tmp_path / TEXT_FILE).values()} == {np.dtype(np.float16)}
    rounded = jax.tree.map(lambda x: x.astype(jnp.float16).astype(jnp.float32), nnx.state(model))
    again = svp_jax.load_model(tmp_path)
    nnx.update(model, rounded)
    assert_same_parameters(model, again)


def test_what_does_not_fit_into_float16_is_refused_and_nothing_is_left(folders, tmp_path):
    model = svp_jax.load_model(folders["text"][0])
    model.layers[0].fc1.bias[...] = model.layers[0].fc1.bias[...].at[0].set(1e5)
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.fc1\.bias.*float16"):
        svp_jax.save_model(model, tmp_path / "out", jnp.float16)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="dtype is int32"):
        svp_jax.save_model(model, tmp_path / "out", jnp.int32)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(folders, tmp_path, value):
    model = svp_jax.load_model(folders["text"][0])
    model.layers[0].fc1.bias[...] = model.layers[0].fc1.bias[...].at[0].set(value)
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.fc1\.bias holds numbers that are not finite"):
        svp_jax.save_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_failed_write_keeps_the_old_file_and_leaves_no_other(folders, tmp_path):
    model = svp_jax.load_model(folders["text"][0])
    svp_jax.save_model(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_size_limit(20_000), pytest.raises(UserError, match="File too large"):
        svp_jax.save_model(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_deprecated_attention_names_of_the_vae(folders, vae_folder):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for key in list(tensors):
            for new, old in names.items():
                if f"attentions.0.{new}." in key:
                    tensors[key.replace(new, old)] = tensors.pop(key)

    edit(vae_folder / VAE_FILE, rename)
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in load_file(vae_folder / VAE_FILE)
    assert_same_parameters(svp_jax.load_model(vae_folder), svp_jax.load_model(folders["vae"][0]))


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_text_encoder_names_with_and_without_prefix(folders, text_folder, prefix):
    def rename(tensors):
        for key in list(tensors):
            tensors[prefix + key.removeprefix("text_model.")] = tensors.pop(key)
        tensors[prefix + "embeddings.position_ids"] = np.arange(77)[None]

    edit(text_folder / TEXT_FILE, rename)
    assert_same_parameters(svp_jax.load_model(text_folder), svp_jax.load_model(folders["text"][0]))


def test_every_kind_of_misfit_is_named_in_one_line(vae_folder):
    def spoil(tensors):
        del tensors["quant_conv.bias"], tensors["encoder.mid_block.resnets.1.conv2.weight"]
        tensors["encoder.mid_block.resnets.7.conv2.weight"] = np.zeros(3, np.float32)
        tensors["decoder.mid_block.attentions.0.query.bias"] = tensors["decoder.mid_block.attentions.0.to_q.bias"]
        tensors["encoder.conv_in.weight"] = tensors["encoder.conv_in.weight"].transpose(2, 3, 1, 0).copy()
        tensors["decoder.conv_out.bias"] = tensors["decoder.conv_out.bias"].astype(np.int32)

    edit(vae_folder / VAE_FILE, spoil)
    with pytest.raises(UserError) as caught:
        svp_jax.load_model(vae_folder)
    assert str(caught.value) == (
        f"{vae_folder / VAE_FILE} does not fit its config.json: "
        "unknown tensors: encoder.mid_block.resnets.7.conv2.weight; "
        "missing tensors: encoder.mid_block.resnets.1.conv2.weight, quant_conv.bias; "
        "doubled tensors: decoder.mid_block.attentions.0.query.bias and decoder.mid_block.attentions.0.to_q.bias; "
        "misshapen tensors: encoder.conv_in.weight is [3, 3, 3, 16], not [16, 3, 3, 3]; "
        "tensors that are not floating point: decoder.conv_out.bias is int32"
    )


def test_projections_must_lie_as_the_config_says(folders, tmp_path):
    """SD 1.x and 2.x differ in nothing but the shape of these tensors."""
    folder = shutil.copytree(folders["unet1"][0], tmp_path / "unet")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"use_linear_projection": True}))
    with pytest.raises(UserError, match=r"misshapen.*mid_block.attentions.0.proj_in.weight is \[96, 96, 1, 1\]"):
        svp_jax.load_model(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_text('{"_class_name": "VQModel"}'), "class 'VQModel'"),
        (lambda folder: (folder / "config.json").write_text("{}"), "class None"),
        (lambda folder: (folder / VAE_FILE).rename(folder / "other.bin"), "found only config.json, other.bin"),
        (lambda folder: (folder / VAE_FILE).write_bytes(b"\x08"), "not a readable safetensors file"),
        (lambda folder: (folder / VAE_FILE).write_bytes((folder / VAE_FILE).read_bytes()[:-9]), "not a readable"),
    ],
)
def test_unusable_folders(vae_folder, spoil, message):
    spoil(vae_folder)
    with pytest.raises(UserError, match=message) as caught:
        svp_jax.load_model(vae_folder)
    assert str(vae_folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_that_cannot_be_honoured_names_file_and_key(vae_folder):
    config = json.loads((vae_folder / "config.json").read_text())
    (vae_folder / "config.json").write_text(json.dumps(config | {"use_quant_conv": False}))
    with pytest.raises(UserError, match=r"vae/config.json: AutoencoderKL config: use_quant_conv is False"):
        svp_jax.load_model(vae_folder)
