"""What docs/scaling.md is made of: counted operations and bytes, and the prediction from them."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from factories import UNET

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from scaling.prediction import Card, Step, predict  # noqa: E402
from scaling.program import Program, _flops, collective_bytes  # noqa: E402

from svp_jax.training.step.devices import Devices  # noqa: E402


def test_operations_of_products_convolutions_and_loops():
    def program(x, kernel):
        kernel @ kernel.swapaxes(2, 3)  # Not used

        def body(carry, _):
            return carry @ carry, None

        image = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.lax.scan(jax.checkpoint(body), image[0, :, :, 0], length=3)[0]

    traced = jax.make_jaxpr(program)(jnp.zeros((1, 8, 8, 5)), jnp.zeros((3, 3, 5, 7)))
    # Each of 8 x 8 x 7 results sums 9 x 5 products; three products of matrices of 8 x 8.
    assert _flops(traced.jaxpr) == 2 * 8 * 8 * 7 * 45 + 3 * 2 * 8**3


def test_bytes_of_collectives():
    text = """
  %a = f32[8,4]{1,0} all-gather(%x), channel_id=1, dimensions={0}
  %b = (bf16[2]{0}, bf16[8]{0}) all-gather-start(%y), dimensions={0}
  %c = (f32[3]{0}, f32[]) all-reduce(%z, %w), to_apply=%add
  %d = f32[5]{0} reduce-scatter(%v), dimensions={0}
  %e = f32[5]{0} add(%all-gather, %d)
"""
    assert collective_bytes(text, 4) == {"all-gather": 128 + 16, "all-reduce": 16, "reduce-scatter": 80}


def test_a_program_is_counted_without_its_parameters():
    program, two = (Program(Devices.of("pmap"), "float32", "none", network=UNET, side=8, batch=n) for n in (1, 2))
    parameters = sum(x.size for x in program.trained.values())
    # Parameters and both moments, a count, and whether all was finite.
    assert program.bytes_on_device()["state"] == 12 * parameters + 4 + 1
    assert program.bytes_on_device(ema=True)["state"] == 16 * parameters + 4 + 1
    assert two.flops() == pytest.approx(2 * program.flops(), rel=0.01)
    full = Program(Devices.of("pmap"), "float32", "full", network=UNET, side=8)
    assert full.flops() > program.flops() and full.kept_bytes() < program.kept_bytes()


def test_a_prediction_by_hand():
    """8 and 16 cards of 1e12 operations, 1e9 bytes of memory, a link of 4e9 and a network of 1e9 bytes a second."""
    card, step = Card("card", 1e12, 1e9, 4e9, 1e9), Step(1e12, 10**6, 8e9, 0, 0, shared_out=False)
    alone, eight, sixteen = (predict(step, card, gpus, 2) for gpus in (1, 8, 16))
    assert alone.compute == eight.compute == pytest.approx(2 / 0.4)
    assert alone.communication == 0 and alone.exposed == alone.hidden == pytest.approx(5 + 0.032)
    assert eight.communication == pytest.approx(2 * 7 / 8 * 8 / 4 / 0.8)
    assert sixteen.communication == pytest.approx(2 * 15 / 16 * 8 / 1 / 0.8)
    assert eight.hidden == pytest.approx(5.032) and sixteen.hidden == pytest.approx(sixteen.communication + 0.032)
    shared = predict(Step(1e12, 10**6, 0, 6e9, 2e9, shared_out=True), card, 8, 2)
    assert shared.communication == pytest.approx(eight.communication / 2) and shared.update == pytest.approx(0.004)


def test_the_tables_of_the_document_are_the_tools():
    program = [sys.executable, ROOT / "tools" / "predict_scaling.py"]
    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    document = (ROOT / "docs" / "scaling.md").read_text()
    lines = [line for line in found.splitlines() if line]
    assert lines and lines == [line for line in document.splitlines() if line in set(lines)]


def test_fsdp_needs_at_most_30_percent_of_the_state_on_four_devices():
    """Of SD 1.5 at full width, as it was compiled (`tools/predict_scaling.py --measure`)."""
    numbers = json.loads((ROOT / "tools" / "scaling" / "sd15.json").read_text())
    pmap, fsdp = (numbers["state"][f"{way} 4"] for way in ("pmap", "fsdp"))
    assert all(fsdp[name] <= 0.3 * pmap[name] for name in pmap)
    programs = (numbers["programs"][f"{way} 4 none"]["arguments"] for way in ("fsdp", "pmap"))
    assert next(programs) <= 0.3 * next(programs)
