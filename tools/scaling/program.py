"""What the compiled training step of SD 1.5 computes, keeps and sends: from shapes alone, without a parameter."""

import math
import re
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.models import ControlNet, ControlNetConfig, UNet, UNetConfig
from svp_jax.training.stage import stage_loss
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.gradients import Gradients, Numbers
from svp_jax.training.step.memory import bytes_on_device
from svp_jax.training.step.optimizer import make_optimizer
from svp_jax.training.step.packing import PACKED, Packing
from svp_jax.training.step.remat import rematerialise
from svp_jax.training.step.train_step import state_shapes
from svp_jax.training.step.trainable import assemble, divide, flatten, stage_rules

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "clip_sample": False,
}
# Of the networks' JSON: SD 1.5 leaves all else at diffusers' defaults.
SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
# Stage II's: a parsing map, a render and an iris map.
CONDITION_CHANNELS = 9
TOKENS = 77
NUMBERS = Numbers(np.uint32(0), np.uint32(0), np.float32(1e-5), np.float32(0.999))

COLLECTIVE = re.compile(r"= (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
ARRAY = re.compile(r"\b(pred|[subf]+\d+)\[([\d,]*)\]")


class Program:
    """The training step of one stage, unlocked, with AdamW, at full width or at that of other networks.

    Args:
        network: JSON of UNet and ControlNet.
        side: of the latents.
        batch: rows of a device.
    """

    def __init__(self, devices: Devices, precision: str, remat: str, *, network=SD15, side: int = 64, batch: int = 1):
        dtype = jnp.dtype(precision)
        unet, controlnet = (
            nnx.eval_shape(lambda kind=kind, config=config: kind(config, rngs=nnx.Rngs(0), dtype=dtype))
            for kind, config in (
                (UNet, UNetConfig.from_json(network)),
                (
                    ControlNet,
                    ControlNetConfig.from_json(
                        {k: v for k, v in network.items() if k not in ("up_block_types", "sample_size")}
                        | {"conditioning_channels": CONDITION_CHANNELS}
                    ),
                ),
            )
        )
        self.devices, self.remat = devices, remat
        self._structures, flat = flatten({"controlnet": controlnet, "unet": unet})
        trained, frozen, multipliers = divide(flat, stage_rules("unlocked", 0.2))
        # As the loop keeps them: frozen kernels in what they are computed in.
        frozen = {n: jax.ShapeDtypeStruct(x.shape, dtype if x.ndim > 1 else x.dtype) for n, x in frozen.items()}
        self._packing = Packing.of(trained)
        packed = {name: trained[name] for name in self._packing.large}
        small = sum(math.prod(shape) for _, shape in self._packing.small)
        packed[PACKED] = jax.ShapeDtypeStruct((small,), np.float32)
        self.trained, self.frozen = (
            {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.sharding_of(x.shape)) for n, x in each.items()}
            for each in (packed, frozen)
        )
        self._multipliers = tuple(multipliers.items())
        text = unet.config.cross_attention_dim
        shapes = {
            "mean": ((batch, side, side, 4), np.float32),
            "std": ((batch, side, side, 4), np.float32),
            "condition": ((batch, 8 * side, 8 * side, CONDITION_CHANNELS), np.uint8),
            "text": ((batch, TOKENS, text), np.float32),
        }
        self._batch = {name: jax.ShapeDtypeStruct(shape, kind) for name, (shape, kind) in shapes.items()}
        self._loss = stage_loss(SchedulerConfig.from_json(SCHEDULER), 0.18215, 1.0, None)

    def compiled(self) -> jax.stages.Compiled:
        """The program that makes the gradients of a step; minutes at full width."""
        rows = {**self._batch, "row": jax.ShapeDtypeStruct((self._batch["mean"].shape[0],), np.uint32)}
        part = {
            name: jax.ShapeDtypeStruct((self.devices.count, *x.shape), x.dtype, sharding=self.devices.split)
            for name, x in rows.items()
        }
        gradients = Gradients(self._loss, self._structures, self._packing, self.devices, self.remat)
        return gradients.compiled(self.trained, self.frozen, part, NUMBERS, 1)

    def flops(self) -> float:
        """Of one device's rows: multiplications and additions of convolutions and matrix products, forward and back."""

        return _flops(self._traced(jax.value_and_grad).jaxpr)

    def kept_bytes(self) -> int:
        """Of one device's rows: what the forward pass keeps for the backward pass, but for parameters."""
        jaxpr = self._traced(lambda loss: lambda trained, *rest: jax.vjp(lambda t: loss(t, *rest), trained)[1]).jaxpr
        kept = _variables(jaxpr.outvars) - {*jaxpr.invars, *jaxpr.constvars}
        return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in kept)

    def _traced(self, transform: Callable):
        """The loss of one device's rows as it is traced for a GPU, where attention has its own form."""

        def loss(trained, frozen, batch, keys):
            models = assemble(self._structures, {**frozen, **self._packing.unpack(trained)})
            for name, model in models.items():
                rematerialise(model, self.remat, name=name)
            return self._loss(models, batch, keys)

        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), self._batch["mean"].shape[0]))
        with mock.patch.object(jax, "default_backend", lambda: "gpu"):
            return jax.make_jaxpr(transform(loss))(self.trained, self.frozen, self._batch, keys)

    def bytes_on_device(self, state: str = "float32", ema: bool = False) -> dict[str, int]:
        """Of the state (parameters, optimizer, average) and of frozen parameters, on each device."""
        optimizer = make_optimizer(1.0, 0.01, self._multipliers, self._packing, state)
        shapes = state_shapes(self.trained, optimizer, ema, self.devices)
        return {
            "state": bytes_on_device(shapes, self.devices),
            "frozen": bytes_on_device(self.frozen, self.devices),
        }


def _flops(jaxpr) -> float:
    """Of convolutions and matrix products whose results are used, loops counted as often as they run."""
    total = 0.0
    for equation in _used(jaxpr):
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / outputs
        times = parameters["length"] if name == "scan" else 1
        total += times * sum(_flops(inner) for inner in _inner(parameters))
    return total


def _used(jaxpr) -> list:
    """The equations that the results need; compilers leave out the others."""
    used, needed = [], _variables(jaxpr.outvars)
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            used.append(equation)
            needed |= _variables(equation.invars)
    return used


def _variables(atoms) -> set:
    """Of variables and literals."""
    return {atom for atom in atoms if not hasattr(atom, "val")}


def _inner(parameters: dict) -> Iterator:
    """The programs that an equation runs, each once; of alternatives all."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def collective_bytes(text: str, count: int) -> dict[str, int]:
    """Bytes by kind of collective in a compiled program's text for `count` devices.

    Of each, the whole array that is summed, gathered or shared out: what a ring sends is (n - 1) / n of it, and of an
    all-reduce twice that.
    """
    totals: dict[str, int] = {}
    for line in text.splitlines():
        if found := COLLECTIVE.search(line):
            result, kind = found.groups()
            arrays = ARRAY.findall(result)
            if f"{kind}-start(" in line and kind != "all-reduce":
                # Of an asynchronous one: operands, then results.
                arrays = arrays[len(arrays) // 2 :]
            total = sum(_bytes(*array) for array in arrays)
            totals[kind] = totals.get(kind, 0) + total * (count if kind == "reduce-scatter" else 1)
    return totals


def _bytes(kind: str, shape: str) -> int:
    width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
    return width * math.prod(int(length) for length in shape.split(",") if length)


def size(shapes: dict) -> int:
    """Numbers in all arrays together."""
    return sum(math.prod(x.shape) for x in shapes.values())
