"""One training step: a pure function of state, batch and numbers, compiled for the devices of a run."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from svp_jax.training.step.devices import Devices
from svp_jax.training.step.gradients import Gradients, LossOf, Numbers
from svp_jax.training.step.optimizer import moving_average
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.trainable import Flat, Structure


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
        trained: the trained parameters, float32, packed.
        optimizer: the optimizer's state.
        ema: the moving average of `trained`; empty where none is kept.
        finite: false once a loss or gradient was not finite: then nothing else changes any more.
    """

    trained: Flat
    optimizer: optax.OptState
    ema: Flat
    finite: jax.Array


def state_shapes(
    trained: Flat, optimizer: optax.GradientTransformationExtraArgs, ema: bool, devices: Devices
) -> TrainState:
    """As `first_state`, shapes with shardings only."""

    def shape(x) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.sharding_of(x.shape))

    shapes = jax.tree.map(shape, dict(trained))
    opt_state = jax.tree.map(shape, jax.eval_shape(optimizer.init, shapes))
    return TrainState(shapes, opt_state, shapes if ema else {}, shape(np.array(True)))


def first_state(
    trained: Flat, optimizer: optax.GradientTransformationExtraArgs, ema: bool, devices: Devices
) -> TrainState:
    """The state before the first step, on `devices`; it shares no memory with `trained`."""
    placed = devices.place(trained)
    shardings = devices.shardings_of(jax.eval_shape(optimizer.init, placed))
    opt_state = jax.jit(optimizer.init, out_shardings=shardings)(placed)
    return TrainState(placed, opt_state, devices.place(trained) if ema else {}, devices.place(np.array(True)))


class TrainStep:
    """The compiled step; call it with the batch in as many parts as gradients are accumulated over.

    `step(state, frozen, parts, numbers)` returns (state, scalars) and donates the state; parts as in `Gradients`.
    `scalars` holds the loss and the L2 norm of the gradients, averaged over the global batch, whether all is finite,
    and `gradient_norms`, one for each of `packing.names`; where `measured`, which takes longer, also `update_norm` and
    `parameter_norm`, the L2 norms of what the step changes and of what it was.
    """

    def __init__(
        self,
        gradients: Gradients,
        packing: Packing,
        optimizer: optax.GradientTransformationExtraArgs,
        devices: Devices,
    ):
        self.gradients, self.packing = gradients, packing
        self._update = jax.jit(functools.partial(_update, optimizer, packing, devices), donate_argnums=(0,))
        self._measure = jax.jit(functools.partial(_measure, optimizer))

    def compile(self, state: TrainState, frozen: Flat, part: dict, numbers: Numbers, count: int) -> jax.stages.Compiled:
        """Compiles what calls with `count` such parts use, where it is new.

        Returns the program of the last part's gradients, which needs most memory.
        """
        program = self.gradients.compiled(state.trained, frozen, part, numbers, count)
        of_loss, of_gradients = program.output_shardings
        loss = jax.ShapeDtypeStruct((), jnp.float32, sharding=of_loss)
        gradients = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=of_gradients[name])
            for name, x in state.trained.items()
        }
        # JAX keeps them for the calls.
        self._update.lower(state, loss, gradients, numbers).compile()
        self._measure.lower(state, gradients, numbers).compile()
        return program

    def __call__(
        self, state: TrainState, frozen: Flat, parts: Sequence[dict], numbers: Numbers, measured: bool = False
    ) -> tuple[TrainState, dict]:
        loss, gradients = self.gradients(state.trained, frozen, parts, numbers)
        more = self._measure(state, gradients, numbers) if measured else {}
        state, scalars = self._update(state, loss, gradients, numbers)
        return state, scalars | more


@functools.lru_cache(maxsize=2)
def make_train_step(
    loss_of: LossOf,
    structures: tuple[tuple[str, Structure], ...],
    packing: Packing,
    optimizer: optax.GradientTransformationExtraArgs,
    devices: Devices,
    remat: str = "none",
) -> TrainStep:
    """The step, or an earlier one where it is the same: compiling takes a minute.

    Args:
        structures: (name, structure) of every model.
        remat: a policy of `svp_jax.training.step.remat`.
    """
    return TrainStep(Gradients(loss_of, dict(structures), packing, devices, remat), packing, optimizer, devices)


def _updates(
    optimizer: optax.GradientTransformationExtraArgs, state: TrainState, gradients: Flat, numbers: Numbers, finite
) -> tuple[Flat, optax.OptState]:
    # Rows of the batch fold small numbers into the step's key; this is none of them.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(numbers.seed), numbers.step), np.uint32(2**32 - 1))
    return optimizer.update(
        gradients, state.optimizer, state.trained, learning_rate=numbers.learning_rate, finite=finite, key=key
    )


def _update(
    optimizer: optax.GradientTransformationExtraArgs,
    packing: Packing,
    devices: Devices,
    state: TrainState,
    loss: jax.Array,
    gradients: Flat,
    numbers: Numbers,
) -> tuple[TrainState, dict]:
    norm = optax.tree.norm(gradients)
    finite = state.finite & jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = _updates(optimizer, state, gradients, numbers, finite)
    trained = {name: jnp.where(finite, x + updates[name], x) for name, x in state.trained.items()}
    ema = moving_average(state.ema, trained, jnp.where(finite, numbers.ema_decay, 1.0))
    new = TrainState(trained, opt_state, ema, finite)
    new = jax.lax.with_sharding_constraint(new, devices.shardings_of(new))
    scalars = {"loss": loss, "gradient_norm": norm, "finite": finite, "gradient_norms": packing.norms(gradients)}
    return new, scalars


def _measure(
    optimizer: optax.GradientTransformationExtraArgs, state: TrainState, gradients: Flat, numbers: Numbers
) -> dict[str, jax.Array]:
    updates, _ = _updates(optimizer, state, gradients, numbers, state.finite)
    return {"update_norm": optax.tree.norm(updates), "parameter_norm": optax.tree.norm(state.trained)}
