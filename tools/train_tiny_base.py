"""Trains `svp_jax/assets/tiny_base` from nothing: data, VAE, text encoder, UNet, ControlNet, one after the other.

    python tools/train_tiny_base.py --work WORK [--only data|vae|text|unet|control|export]

Everything lies in WORK and is written as it is made; an interrupted run goes on where it stopped. To train a part
further than it was, move WORK/PART to WORK/start/PART and WORK/run_PART away, and run it again. The data are
procedural heads (svp_jax/capture/synthetic/): no photograph and no foreign weight takes part.
Losses of the runs that made the shipped weights: docs/tiny_base.md.
"""

import argparse
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
from tiny_base_control import train_control
from tiny_base_data import make_data
from tiny_base_models import MODEL_INDEX, SCHEDULER
from tiny_base_settings import SEED
from tiny_base_text import train_text
from tiny_base_unet import train_unet
from tiny_base_vae import train_vae

from svp_jax.manifest import write_json
from svp_jax.process import set_up_process
from svp_jax.weights.base import TINY_BASE
from svp_jax.weights.folder import load_model, save_model

HEADS = 4000


def export(work: Path, out: Path) -> None:
    """Writes the base in the diffusers layout, weights in float16."""
    beside = out.with_name(out.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    for source in ("vae", "text_encoder", "control/unet", "control/controlnet"):
        save_model(load_model(work / source), beside / Path(source).name, dtype=jnp.float16)
    shutil.copytree(work / "tokenizer", beside / "tokenizer")
    (beside / "scheduler").mkdir()
    write_json(beside / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(beside / "model_index.json", MODEL_INDEX)
    shutil.rmtree(out, ignore_errors=True)
    beside.replace(out)
    print(f"wrote {out}: {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("data", "vae", "text", "unet", "control", "export"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--vae-steps", type=int, default=4000)
    parser.add_argument("--text-steps", type=int, default=700)
    parser.add_argument("--unet-steps", type=int, default=8000)
    parser.add_argument("--control-steps", type=int, default=7000)
    parser.add_argument("--out", type=Path, default=TINY_BASE)
    options = parser.parse_args()

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    if wanted("data"):
        make_data(options.work, HEADS, SEED, options.processes)
    if wanted("vae"):
        train_vae(options.work, options.vae_steps)
    if wanted("text"):
        train_text(options.work, options.text_steps)
    if wanted("unet"):
        vae = load_model(options.work / "vae")
        train_unet(options.work, vae, *train_text(options.work, options.text_steps), options.unet_steps)
    if wanted("control"):
        vae = load_model(options.work / "vae")
        train_control(options.work, vae, *train_text(options.work, options.text_steps), options.control_steps)
    if wanted("export"):
        export(options.work, options.out)
