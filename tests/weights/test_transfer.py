"""An avatar on another base: its ControlNets plus the difference of the bases."""

import shutil

import numpy as np
import pytest
from factories import make_avatar, make_base
from safetensors.numpy import load_file

from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest, write_manifest
from svp_jax.weights.avatar import load_avatar, part_hashes
from svp_jax.weights.base import load_base
from svp_jax.weights.transfer import transfer

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def bases(tmp_path):
    return make_base(tmp_path / "old", seed=0), make_base(tmp_path / "new", seed=7)


@pytest.mark.parametrize("unet", [False, True])
def test_weights_move_by_the_difference_of_the_bases(bases, tmp_path, unet):
    old, new = bases
    avatar = make_avatar(tmp_path / "avatar", old)
    transfer(old, new, avatar, tmp_path / "moved", unet=unet)
    before, after = load_file(old / "unet" / WEIGHTS), load_file(new / "unet" / WEIGHTS)
    for stage in ("outlines", "details"):
        for network in ("controlnet", "unet")[: 1 + unet]:
            was, now = (load_file(folder / stage / network / WEIGHTS) for folder in (avatar, tmp_path / "moved"))
            assert was.keys() == now.keys()
            for name, value in was.items():
                expected = value + (after[name] - before[name]) if name in before else value
                np.testing.assert_array_equal(now[name], expected, err_msg=f"{stage} {network} {name}")
    moved = load_avatar(tmp_path / "moved")
    manifest = read_manifest(tmp_path / "moved", "avatar")
    assert moved.base.sha256 == load_base(new).sha256
    assert manifest["transferred"]["from"]["sha256"] == load_base(old).sha256
    assert {stage["trainable"] for stage in manifest["stages"].values()} == {"full" if unet else "locked"}


def test_to_the_same_base_changes_nothing(bases, tmp_path):
    old, _ = bases
    avatar = make_avatar(tmp_path / "avatar", old)
    transfer(old, old, avatar, tmp_path / "moved", unet=True)
    for path in avatar.rglob("*.safetensors"):
        was, now = load_file(path), load_file(tmp_path / "moved" / path.relative_to(avatar))
        for name, value in was.items():
            np.testing.assert_array_equal(now[name], value)


def test_what_cannot_be_moved(bases, tmp_path):
    old, new = bases
    avatar = make_avatar(tmp_path / "avatar", old)
    with pytest.raises(UserError, match="was trained on the base with sha256"):
        transfer(new, old, avatar, tmp_path / "moved")
    with pytest.raises(UserError, match=r"is built differently than .*block_out_channels.*needs the same family"):
        transfer(old, "tiny", avatar, tmp_path / "moved")
    with pytest.raises(UserError, match="exists; choose another target"):
        transfer(old, new, avatar, avatar)
    other = make_base(tmp_path / "other", seed=3)
    scheduler = other / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"epsilon"', '"v_prediction"'))
    with pytest.raises(UserError, match=r"predicts epsilon, .*other v_prediction; a transfer needs the same"):
        transfer(old, other, avatar, tmp_path / "moved")
    body = read_manifest(avatar, "avatar")
    shutil.copytree(old / "vae", avatar / "vae")
    config = body["config"] | {"vae": body["config"]["vae"] | {"trainable": "all"}}
    write_manifest(avatar, "avatar", body | {"vae_tuned": True, "config": config, "files": part_hashes(avatar)})
    with pytest.raises(UserError, match=r"its whole VAE was tuned.*add --unet"):
        transfer(old, new, avatar, tmp_path / "moved")
    transfer(old, new, avatar, tmp_path / "moved", unet=True)
    assert load_avatar(tmp_path / "moved").manifest["vae_tuned"]
