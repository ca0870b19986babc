"""Predicts the time of a training step of SD 1.5 on 1 to 64 GPUs; prints the tables of docs/scaling.md.

python tools/predict_scaling.py             from the numbers in tools/scaling/sd15.json, in a second
python tools/predict_scaling.py --measure   counts them anew first: compiles the full-width step for virtual
                                            devices of the CPU, 15 minutes on two cores and 3 GB of memory
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from scaling.prediction import CARDS, Card, Step, predict

NUMBERS = Path(__file__).parent / "scaling" / "sd15.json"
GPUS = (1, 2, 4, 8, 16, 32, 64)
WEAK_BATCH, STRONG_BATCH = 8, 64
PROGRAMS = [("pmap", 1, remat) for remat in ("none", "light", "full")] + [
    ("pmap", 4, "none"),
    ("fsdp", 2, "none"),
    ("fsdp", 4, "none"),
    ("fsdp", 4, "full"),
]
STATES = [(state, ema) for state in ("float32", "bfloat16", "factored") for ema in (False, True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="compile the step and write the numbers anew")
    if parser.parse_args().measure:
        NUMBERS.write_text(json.dumps(measure(), indent=1) + "\n")
    print(tables(json.loads(NUMBERS.read_text())))


def measure() -> dict:
    """What tools/scaling/sd15.json holds; sizes in bytes."""
    # Machine code is not run, so it need not be good. Identical pieces stay apart, as on a GPU: the CPU's compiler
    # drops the barriers between them, and would gather a parameter once for both passes and keep it.
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 --xla_disable_hlo_passes=cse"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from scaling.program import Program, collective_bytes, size

    from svp_jax.training.step.devices import Devices

    numbers = {"jax": jax.__version__, "network": "SD 1.5, unlocked, latents 64 x 64, batch 1 on each device"}
    numbers |= {"flops": {}, "kept": {}, "programs": {}, "state": {}}
    for way, count, remat in PROGRAMS:
        program = Program(Devices.of(way, jax.devices()[:count]), "float32", remat)
        numbers |= {"trained": size(program.trained), "frozen": size(program.frozen)}
        if count == 1:
            numbers["flops"][remat], numbers["kept"][remat] = program.flops(), program.kept_bytes()
        elif remat == "none":
            state = {_state(*each): program.bytes_on_device(*each)["state"] for each in STATES}
            numbers["state"][f"{way} {count}"] = state | {"frozen": program.bytes_on_device()["frozen"]}
        compiled = program.compiled()
        memory = compiled.memory_analysis()
        numbers["programs"][f"{way} {count} {remat}"] = {
            "arguments": memory.argument_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "flops": compiled.cost_analysis()["flops"],
            "collectives": collective_bytes(compiled.as_text(), count),
        }
        jax.clear_caches()
    return numbers


def _state(state: str, ema: bool) -> str:
    return f"{state}, EMA" if ema else state


def tables(numbers: dict) -> str:
    """The tables of docs/scaling.md, as Markdown."""
    sections = [_memory_table(numbers), _remat_table(numbers)]
    for way in ("pmap", "fsdp"):
        step = step_of(numbers, way)
        sections += [_scaling_table(card, step, way) for card in CARDS]
    sections.append(_strong_table(numbers))
    return "\n\n".join("\n".join(section) for section in sections)


def step_of(numbers: dict, way: str) -> Step:
    """One card's share of the step, without rematerialisation for pmap, with "light" for fsdp (which it implies)."""
    sent = numbers["programs"][f"{way} 4 none"]["collectives"]
    kinds = (sent.get(kind, 0) for kind in ("all-reduce", "all-gather", "reduce-scatter"))
    flops = numbers["flops"]["light" if way == "fsdp" else "none"]
    return Step(flops, numbers["trained"], *kinds, shared_out=way == "fsdp")


def _memory_table(numbers: dict) -> Iterator[str]:
    yield "Bytes on each of 4 devices (GB):"
    yield ""
    yield "| | pmap | fsdp | fsdp / pmap |"
    yield "| --- | --- | --- | --- |"
    rows = {f"state, {name}": name for name in (_state(*each) for each in STATES)}
    sizes = {text: [numbers["state"][f"{way} 4"][name] for way in ("pmap", "fsdp")] for text, name in rows.items()}
    sizes["arguments of the compiled program"] = [
        numbers["programs"][f"{way} 4 none"]["arguments"] for way in ("pmap", "fsdp")
    ]
    for text, (pmap, fsdp) in sizes.items():
        yield f"| {text} | {pmap / 1e9:.2f} | {fsdp / 1e9:.2f} | {fsdp / pmap:.1%} |"


def _remat_table(numbers: dict) -> Iterator[str]:
    yield "One image of 512x512 on one device, float32:"
    yield ""
    yield "| remat | kept for the backward pass (GB) | TFLOP | temporary memory on the CPU (GB) |"
    yield "| --- | --- | --- | --- |"
    for remat, kept in numbers["kept"].items():
        temporary = numbers["programs"][f"pmap 1 {remat}"]["temporary"]
        yield f"| {remat} | {kept / 1e9:.2f} | {numbers['flops'][remat] / 1e12:.2f} | {temporary / 1e9:.2f} |"


def _scaling_table(card: Card, step: Step, way: str) -> Iterator[str]:
    alone = predict(step, card, 1, WEAK_BATCH)
    yield f"{card.name}, {way}, {WEAK_BATCH} images on each GPU:"
    yield ""
    yield "| GPUs | compute (ms) | update (ms) | communication (ms) | step (ms) | images/s | efficiency |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for gpus in GPUS:
        found = predict(step, card, gpus, WEAK_BATCH)
        efficiency = (f"{alone.exposed / each:.0%}" for each in (found.exposed, found.hidden))
        speed = (f"{gpus * WEAK_BATCH / each:.0f}" for each in (found.exposed, found.hidden))
        yield (
            f"| {gpus} | {_ms(found.compute)} | {_ms(found.update)} | {_ms(found.communication)} "
            f"| {_ms(found.exposed)} .. {_ms(found.hidden)} | {' .. '.join(speed)} | {' .. '.join(efficiency)} |"
        )


def _strong_table(numbers: dict) -> Iterator[str]:
    yield f"Global batch {STRONG_BATCH}, milliseconds a step and efficiency, nothing hidden .. all hidden:"
    yield ""
    yield "| GPUs | images on each | " + " | ".join(f"{card.name}, pmap" for card in CARDS) + " |"
    yield "| --- " * (2 + len(CARDS)) + "|"
    step = step_of(numbers, "pmap")
    for gpus in GPUS:
        cells = []
        for card in CARDS:
            batch = STRONG_BATCH / gpus
            found, alone = predict(step, card, gpus, batch), predict(step, card, 1, STRONG_BATCH)
            times = (found.exposed, found.hidden)
            share = " .. ".join(f"{alone.exposed / each / gpus:.0%}" for each in times)
            cells.append(f"{' .. '.join(map(_ms, times))} ({share})")
        yield f"| {gpus} | {STRONG_BATCH // gpus} | " + " | ".join(cells) + " |"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"


if __name__ == "__main__":
    main()
