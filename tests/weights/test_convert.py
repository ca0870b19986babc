"""`svp convert`: every tensor comes back bit by bit, other tools open what it writes, bad input leaves nothing."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
import torch_reference as reference
from factories import file_size_limit, make_avatar, make_base, make_tokenizer
from safetensors.numpy import load_file, save_file
from torch_reference import diffusers, torch

from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import body_of, read_manifest, write_manifest
from svp_jax.weights.avatar import load_avatar, part_hashes
from svp_jax.weights.base import encode_prompts, load_base
from svp_jax.weights.convert import convert
from svp_jax.weights.exported import avatar_of_files
from svp_jax.weights.folder import load_model
from svp_jax.weights.single_file import open_single_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = {"unet": WEIGHTS, "vae": WEIGHTS, "text_encoder": "model.safetensors", "controlnet": WEIGHTS}
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def tensors_of(folder, names=("unet", "vae", "text_encoder")):
    """All tensors of a folder in diffusers' layout, under the names that files have."""
    found = {}
    for name in names:
        tensors = load_file(folder / name / FILES[name])
        prefix = "text_model." if name == "text_encoder" else ""
        found |= {f"{name}.{prefix}{key.removeprefix('text_model.')}": value for key, value in tensors.items()}
    return found


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name].dtype == value.dtype, name
        np.testing.assert_array_equal(second[name], value, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_folder_to_file_to_folder(base_folder, vocabulary, tmp_path, dtype):
    convert(base_folder, tmp_path / "first", dtype=dtype)
    convert(tmp_path / "first", tmp_path / "model.safetensors")
    recognised = convert(tmp_path / "model.safetensors", tmp_path / "second", tokenizer=vocabulary)
    assert f"UNet in {dtype}" in recognised
    assert {value.dtype for value in tensors_of(tmp_path / "first").values()} == {np.dtype(DTYPES[dtype])}
    assert_equal(tensors_of(tmp_path / "first"), tensors_of(tmp_path / "second"))
    if dtype == "float32":
        assert_equal(tensors_of(base_folder), tensors_of(tmp_path / "second"))
    record = json.loads((tmp_path / "second" / "conversion.json").read_text())
    assert record["source"] == "model.safetensors" and len(record["sha256"]) == 64
    diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "second")


def test_a_published_checkpoint(checkpoint, base_folder, vocabulary, tmp_path, family):
    """No word of ours in its header; to a folder that diffusers opens, and back to the same file."""
    halves = {name: value.astype(np.float16) for name, value in checkpoint.items()}
    save_file(halves, tmp_path / "model.safetensors", metadata={"format": "pt"})
    convert(tmp_path / "model.safetensors", tmp_path / "base", tokenizer=vocabulary, prediction="epsilon")
    expected = {name: value.astype(np.float16) for name, value in tensors_of(base_folder).items()}
    assert_equal(expected, tensors_of(tmp_path / "base"))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    assert pipeline.unet.config.attention_head_dim == (8 if family == "sd1" else [1, 2, 2, 2])
    assert pipeline.scheduler.config.steps_offset == 1 and not pipeline.scheduler.config.set_alpha_to_one
    assert pipeline.tokenizer.pad_token == ("<|endoftext|>" if family == "sd1" else "!")
    assert load_base(tmp_path / "base").tokenizer.pad_token_id == pipeline.tokenizer.pad_token_id
    convert(tmp_path / "base", tmp_path / "again.safetensors")
    assert_equal(halves, load_file(tmp_path / "again.safetensors"))


def test_diffusers_reads_the_single_files(base_folder, networks, tmp_path):
    """By its own recognition of the original names, which is that of A1111's and ComfyUI's files."""
    reference.saved(networks["controlnet"], tmp_path / "controlnet")
    convert(tmp_path / "controlnet", tmp_path / "controlnet.safetensors")
    convert(base_folder, tmp_path / "model.safetensors")
    local = {"local_files_only": True}
    pipeline = diffusers.StableDiffusionPipeline.from_single_file(
        tmp_path / "model.safetensors", config=str(base_folder), safety_checker=None, **local
    )
    opened = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")}
    opened["controlnet"] = diffusers.ControlNetModel.from_single_file(
        tmp_path / "controlnet.safetensors", config=str(tmp_path / "controlnet"), **local
    )
    for name, network in networks.items():
        theirs = opened[name].state_dict()
        assert theirs.keys() == network.state_dict().keys()
        assert all(torch.equal(theirs[key], value) for key, value in network.state_dict().items()), name


def test_another_tokenizer_is_refused(own_base, checkpoint, tmp_path):
    """One that knows more words than the text encoder."""
    convert(own_base, tmp_path / "model.safetensors")
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    words = json.loads((tokenizer / "vocab.json").read_text())
    (tokenizer / "vocab.json").write_text(json.dumps(words | {"another": len(words)}))
    message = r"tokenizer: the tokenizer knows 515 tokens, the text_encoder 514; give --tokenizer the base's own"
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "model.safetensors", tmp_path / "out", tokenizer=tokenizer)
    assert not (tmp_path / "out").exists()


def test_the_choice_of_the_running_average_is_recorded(checkpoint, vocabulary, tmp_path):
    prefix = "model.diffusion_model."
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value * 2
        for name, value in checkpoint.items()
        if name.startswith(prefix)
    }
    save_file(checkpoint | average, tmp_path / "model.safetensors")
    for ema, weights, factor in ((False, "last", 1), (True, "averaged", 2)):
        target = tmp_path / weights
        convert(tmp_path / "model.safetensors", target, ema=ema, tokenizer=vocabulary, prediction="epsilon")
        assert json.loads((target / "conversion.json").read_text())["unet_weights"] == weights
        found = load_file(target / "unet" / WEIGHTS)["conv_out.bias"]
        np.testing.assert_array_equal(found, factor * checkpoint[prefix + "out.2.bias"])


def test_a_single_file_is_a_base(checkpoint, base_folder, family, vocabulary, tmp_path, monkeypatch):
    """The same networks, tokenizer and schedule as the folder that it was made from."""
    save_file(checkpoint | {"v_pred": np.zeros(0, np.float32)}, tmp_path / "model.safetensors")
    monkeypatch.setenv("SVP_MODELS", str(vocabulary.parent))
    file, folder = load_base(tmp_path / "model.safetensors"), load_base(base_folder)
    assert file.scheduler_config.prediction_type == "v_prediction" and "UNet in float32" in file.description
    prompts = ["a portrait of a person"]
    assert file.tokenizer(prompts)["input_ids"] == folder.tokenizer(prompts)["input_ids"]
    if family == "sd2":
        # The folder's own tokenizer is not one of 2.x, which pads with "!".
        assert file.tokenizer.pad_token == "!"
    else:
        assert file.tokenizer(prompts, padding="max_length") == folder.tokenizer(prompts, padding="max_length")
        np.testing.assert_array_equal(encode_prompts(file, prompts), encode_prompts(folder, prompts))
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"brings no tokenizer.*svp assets --fetch clip_tokenizer"):
        load_base(tmp_path / "model.safetensors")
    save_file({k: v for k, v in checkpoint.items() if "first_stage" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds no vae; give a whole"):
        load_base(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", ["shards", "bin", "fp16", "non_ema"])
def test_kinds_of_folders(networks, tmp_path, kind):
    """Shards with an index, pickles, and variants beside the plain weights."""
    unet = networks["unet"]
    folder = tmp_path / "unet"
    if kind == "shards":
        unet.save_pretrained(folder, max_shard_size="1MB")
        assert len(list(folder.glob("*.safetensors"))) > 1
    elif kind == "bin":
        unet.save_pretrained(folder, safe_serialization=False)
    else:
        unet.save_pretrained(folder)
        changed = {name: value.numpy() + np.float32(1) for name, value in unet.state_dict().items()}
        save_file(changed, folder / f"diffusion_pytorch_model.{kind}.safetensors")
    variant = kind if kind in ("fp16", "non_ema") else None
    convert(folder, tmp_path / "out", variant=variant)
    found = load_file(tmp_path / "out" / WEIGHTS)
    for name, value in unet.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy() + np.float32(variant is not None))


@pytest.mark.parametrize("bare", [False, True])
def test_a_controlnet_alone(networks, original, tmp_path, bare):
    reference.saved(networks["controlnet"], tmp_path / "controlnet")
    convert(tmp_path / "controlnet", tmp_path / "file.safetensors", bare=bare)
    prefix = "" if bare else "control_model."
    expected = {prefix + name: value for name, value in original["control_model."].items()}
    assert_equal(expected, load_file(tmp_path / "file.safetensors"))
    convert(tmp_path / "file.safetensors", tmp_path / "back")
    assert_equal(load_file(tmp_path / "controlnet" / WEIGHTS), load_file(tmp_path / "back" / WEIGHTS))
    diffusers.ControlNetModel.from_pretrained(tmp_path / "back")


def test_a_vae_takes_the_place_of_another(base_folder, tmp_path):
    other = make_base(tmp_path / "other")
    convert(base_folder, tmp_path / "out", vae=other)
    assert_equal(load_file(other / "vae" / WEIGHTS), load_file(tmp_path / "out" / "vae" / WEIGHTS))
    convert(other / "vae", tmp_path / "vae.safetensors")
    assert "decoder.mid.attn_1.q.weight" in load_file(tmp_path / "vae.safetensors")
    convert(base_folder, tmp_path / "again", vae=tmp_path / "vae.safetensors")
    assert_equal(load_file(other / "vae" / WEIGHTS), load_file(tmp_path / "again" / "vae" / WEIGHTS))
    assert json.loads((tmp_path / "again" / "conversion.json").read_text())["vae"] == str(tmp_path / "vae.safetensors")
    with pytest.raises(UserError, match=r"--vae .*unet holds no VAE"):
        convert(base_folder, tmp_path / "third", vae=base_folder / "unet")


@pytest.fixture
def own_base(tmp_path):
    return make_base(tmp_path / "own_base")


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("vae_tuned", [False, True])
def test_an_avatar_to_files_and_back(own_base, tmp_path, locked, vae_tuned):
    avatar = make_avatar(tmp_path / "avatar", own_base, locked=locked)
    if vae_tuned:
        body = read_manifest(avatar, "avatar")
        shutil.copytree(make_base(tmp_path / "other", seed=5) / "vae", avatar / "vae")
        write_manifest(avatar, "avatar", body | {"vae_tuned": True, "files": part_hashes(avatar)})
    files = []
    for stage in ("outlines", "details"):
        files.append(tmp_path / f"{stage}.safetensors")
        convert(avatar, files[-1], stage=stage)
        names = load_file(files[-1]).keys()
        prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "control_model.")
        assert {next(p for p in prefixes if name.startswith(p)) for name in names} == set(prefixes)
    avatar_of_files(files, tmp_path / "back")
    before, after = (read_manifest(folder, "avatar") for folder in (avatar, tmp_path / "back"))
    assert before == after
    load_avatar(tmp_path / "back")
    avatar_of_files(files[1:], tmp_path / "half")
    assert list(load_avatar(tmp_path / "half").stages) == ["details"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_avatar_of_each_family_and_dtype(base_folder, networks, tmp_path, dtype):
    """To a single file and to an avatar again: every tensor has its bits."""
    avatar = tmp_path / "avatar"
    reference.saved(networks["controlnet"], tmp_path / "controlnet")
    convert(tmp_path / "controlnet", avatar / "details" / "controlnet", dtype=dtype)
    convert(base_folder / "unet", avatar / "details" / "unet", dtype=dtype)
    manifest = read_manifest(
        make_avatar(tmp_path / "other", make_base(tmp_path / "base"), stages=("details",)), "avatar"
    )
    body = body_of(manifest) | {"base": {"path": str(base_folder), "sha256": load_base(base_folder, ()).sha256}}
    write_manifest(avatar, "avatar", body | {"files": part_hashes(avatar)})
    convert(avatar, tmp_path / "details.safetensors")
    avatar_of_files([tmp_path / "details.safetensors"], tmp_path / "back")
    for network in ("controlnet", "unet"):
        was, now = (load_file(folder / "details" / network / WEIGHTS) for folder in (avatar, tmp_path / "back"))
        assert {value.dtype for value in was.values()} == {np.dtype(DTYPES[dtype])}
        assert_equal(was, now)


def test_an_avatar_whose_base_is_a_single_file(own_base, tmp_path, monkeypatch):
    convert(own_base, tmp_path / "base.safetensors")
    make_tokenizer(tmp_path / "clip_tokenizer")
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    avatar = make_avatar(tmp_path / "avatar", tmp_path / "base.safetensors")
    assert inspect(avatar) == []
    opened = load_avatar(avatar)
    assert opened.base.path == tmp_path / "base.safetensors" and set(opened.stages) == {"outlines", "details"}
    convert(avatar, tmp_path / "details", tokenizer=tmp_path / "clip_tokenizer")
    assert (tmp_path / "details" / "tokenizer" / "tokenizer_config.json").is_file()
    diffusers.StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "details")


def test_an_avatars_stage_opens_in_diffusers(own_base, tmp_path):
    avatar = make_avatar(tmp_path / "avatar", own_base)
    assert "an avatar's stage outlines" in convert(avatar, tmp_path / "out", stage="outlines")
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "out")
    for name in ("unet", "controlnet"):
        theirs = getattr(pipeline, name).state_dict()
        ours = load_file(avatar / "outlines" / name / WEIGHTS)
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(value, torch.from_numpy(ours[key])) for key, value in theirs.items())
    convert(tmp_path / "out", tmp_path / "file.safetensors")
    convert(tmp_path / "file.safetensors", tmp_path / "again", tokenizer=own_base / "tokenizer")
    names = ("unet", "vae", "text_encoder", "controlnet")
    assert_equal(tensors_of(tmp_path / "out", names), tensors_of(tmp_path / "again", names))


def test_files_that_make_no_avatar(own_base, tmp_path):
    convert(own_base, tmp_path / "base.safetensors")
    with pytest.raises(UserError, match=r"base\.safetensors was not exported from an avatar"):
        avatar_of_files([tmp_path / "base.safetensors"], tmp_path / "out")
    for seed in (1, 2):
        avatar = make_avatar(tmp_path / f"avatar{seed}", own_base, seed=seed)
        for stage in ("outlines", "details"):
            convert(avatar, tmp_path / f"{stage}{seed}.safetensors", stage=stage)
    first, other = tmp_path / "details1.safetensors", tmp_path / "outlines2.safetensors"
    with pytest.raises(UserError, match=r"details1\.safetensors is the stage details again"):
        avatar_of_files([first, first], tmp_path / "out")
    with pytest.raises(UserError, match="are stages of different avatars"):
        avatar_of_files([first, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_header_that_leads_elsewhere_is_refused(own_base, tmp_path):
    """Headers come with files from anywhere: a stage's name becomes a path, so it must be one of the two."""
    avatar = make_avatar(tmp_path / "avatar", own_base)
    path = tmp_path / "details.safetensors"
    convert(avatar, path)
    tensors, texts = load_file(path), open_single_file(path).texts
    exported = json.loads(texts["svp_jax.avatar"])
    without = {name: value for name, value in tensors.items() if not name.startswith("control_model.")}
    for changed, kept, message in (
        (exported | {"stage": str(tmp_path / "elsewhere")}, tensors, "in its header was edited"),
        (exported | {"manifest": exported["manifest"] | {"vae_tuned": True}}, tensors, "in its header was edited"),
        ({"stage": "details"}, tensors, "in its header was edited"),
        (exported, without, "has lost its controlnet"),
    ):
        save_file(kept, path, metadata={**texts, "svp_jax.avatar": json.dumps(changed)})
        with pytest.raises(UserError, match=message):
            avatar_of_files([path], tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "out").exists()


def test_diffusers_takes_the_steps_that_we_take(own_base, tmp_path):
    """Of a base whose schedule is another sampler's, which says nothing of clipping."""
    path = own_base / "scheduler" / "scheduler_config.json"
    settings = {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1}
    path.write_text(json.dumps({**settings, "beta_start": 0.00085, "beta_end": 0.012}))
    ours = load_base(own_base).scheduler_config
    convert(make_avatar(tmp_path / "avatar", own_base), tmp_path / "details")
    theirs = diffusers.StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "details").scheduler.config
    assert not theirs.clip_sample and theirs.set_alpha_to_one == ours.set_alpha_to_one is False
    assert load_base(tmp_path / "details").scheduler_config == ours
    assert (theirs.steps_offset, theirs.timestep_spacing) == (ours.steps_offset, ours.timestep_spacing)


def spoiled(path, name, change):
    tensors = {key: value.copy() for key, value in load_file(path).items()}
    tensors[name] = change(tensors[name])
    save_file(tensors, path)


def test_numbers_that_are_not_finite_are_named(own_base, tmp_path):
    def with_nan(value):
        value.flat[0] = np.nan
        return value

    spoiled(own_base / "unet" / WEIGHTS, "mid_block.resnets.0.conv1.bias", with_nan)
    for target in ("out", "out.safetensors"):
        with pytest.raises(UserError, match=r"resnets\.0\.conv1\.bias|middle_block\.0\.in_layers\.2\.bias") as caught:
            convert(own_base, tmp_path / target)
        assert "holds numbers that are not finite" in str(caught.value)
        assert not (tmp_path / target).exists() and not list(tmp_path.glob("*.partial"))
    with pytest.raises(UserError, match=r"mid_block\.resnets\.0\.conv1\.bias holds numbers that are not finite"):
        load_model(own_base / "unet")


def test_what_float16_cannot_hold_is_named(own_base, tmp_path):
    spoiled(own_base / "vae" / WEIGHTS, "quant_conv.bias", lambda value: value + 1e6)
    with pytest.raises(UserError, match=r"quant_conv\.bias holds values beyond the range of float16"):
        convert(own_base, tmp_path / "out", dtype="float16")
    convert(own_base, tmp_path / "out", dtype="bfloat16")


def test_a_disk_that_fills_up_leaves_no_target(own_base, tmp_path):
    for target in ("out", "out.safetensors", "new/folder/out", "new/folder/out.safetensors"):
        with file_size_limit(50_000), pytest.raises(UserError, match="File too large"):
            convert(own_base, tmp_path / target)
        assert {path.name for path in tmp_path.iterdir()} == {"own_base"}


def test_what_is_in_the_way_or_does_not_go_together(own_base, vocabulary, tmp_path):
    convert(own_base, tmp_path / "file.safetensors")
    avatar = make_avatar(tmp_path / "avatar", own_base, stages=("details",))
    convert(own_base / "unet", tmp_path / "unet.safetensors")
    cases = [
        ((own_base, own_base), {}, "own_base exists; choose another target"),
        ((own_base, tmp_path / "file.safetensors"), {}, "exists; choose another target"),
        ((own_base, tmp_path / "file.ckpt"), {}, "pickles are read and not written"),
        ((tmp_path / "absent", tmp_path / "out"), {}, "absent: no such file or folder"),
        ((tmp_path, tmp_path / "out"), {}, "is not a Stable Diffusion folder: it has no unet"),
        ((own_base, tmp_path / "out"), {"ema": True}, "--ema is for a single file"),
        ((own_base, tmp_path / "out"), {"prediction": "epsilon"}, "--prediction is for a single file"),
        ((own_base, tmp_path / "out"), {"variant": "fp16"}, "--variant fp16: no network in"),
        ((own_base / "unet", tmp_path / "out"), {"variant": "fp16"}, "--variant fp16: "),
        ((tmp_path / "file.safetensors", tmp_path / "out"), {"variant": "fp16"}, "--variant is for a folder"),
        ((own_base, tmp_path / "out"), {"stage": "details"}, "--stage is for an avatar; leave it out"),
        ((own_base, tmp_path / "out"), {"base": own_base}, "--base is for an avatar; leave it out"),
        ((own_base, tmp_path / "out"), {"tokenizer": vocabulary}, "--tokenizer is for a folder that is made of a"),
        ((own_base, tmp_path / "out"), {"vae": tmp_path / "none"}, "none: no such file or folder"),
        ((own_base, tmp_path / "out.safetensor"), {}, "the name of a single file ends in .safetensors"),
        ((own_base, tmp_path / "out"), {"bare": True}, "--bare is for a target that ends in"),
        ((own_base, tmp_path / "out.safetensors"), {"bare": True}, "--bare is for one network"),
        ((avatar, tmp_path / "out"), {"stage": "outlines"}, "has no stage outlines; it has details"),
        (
            (tmp_path / "file.safetensors", tmp_path / "out"),
            {"tokenizer": tmp_path},
            "has no vocab.json and merges.txt",
        ),
        ((own_base, tmp_path / "file.safetensors" / "out"), {}, "cannot write there"),
    ]
    for paths, options, message in cases:
        with pytest.raises(UserError, match=message.replace(".", r"\.")) as caught:
            convert(*paths, **options)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))
