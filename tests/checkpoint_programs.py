"""A training state of which every element tells the step; as a program, for tests that need other processes.

python checkpoint_programs.py devices FOLDER            on 4 devices: saved and restored on 4, 2 and 1
python checkpoint_programs.py forever FOLDER            saves until it is killed, printing what has been finished
python checkpoint_programs.py full FOLDER               on a disk too small for the second of three saves
python checkpoint_programs.py process FOLDER PORT NUMBER     one of two processes, 2 devices each
"""

import functools
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from svp_jax.training.saving.checkpoints import Checkpoints

ABOUT = {"config": {"learning_rate": 0.1, "ema": None}, "capture": "0a1b"}


def state_at(step: int, sharding: NamedSharding, kernel_shape: tuple[int, int] = (128, 512)):
    """The state after `step` steps; arrays with a first axis that 4 divides follow `sharding`, others are whole."""
    # Else nothing would be left of it when it is compressed.
    noise = np.random.default_rng(0).integers(0, 1 << 20, kernel_shape)

    def place(values):
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        return jax.device_put(values, sharding if values.ndim and values.shape[0] % 4 == 0 else whole)

    def parameters():
        return {
            "unet/down.0/kernel": place(np.float32(step + noise)),
            "unet/a": place(np.full(3, step % 128, jnp.bfloat16)),
            "unet": place(np.full(8, step, np.float32)),
        }

    return {
        "trained": parameters(),
        "optimizer": (
            optax.EmptyState(),
            optax.ScaleByAdamState(place(np.asarray(step, np.int32)), parameters(), parameters()),
        ),
        "key": place(np.full(2, step, np.uint32)),
        "flags": place(np.full(4, step % 2 == 1)),
        "flag": place(np.asarray(step % 2 == 1)),
    }


def devices_sharding(count: int, *axes: str) -> NamedSharding:
    """Over the first `count` devices: with axes ("d",) sharded, without replicated."""
    return NamedSharding(Mesh(np.array(jax.devices()[:count]), ("d",)), PartitionSpec(*axes))


def like(sharding: NamedSharding, **other):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_at(0, sharding, **other)
    )


def check_state(state, step: int, sharding: NamedSharding) -> None:
    """Raises AssertionError unless every element is of `step` and lies where it should."""
    expected = state_at(step, sharding)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for (path, leaf), want in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path)
        assert leaf.dtype == want.dtype, name
        assert leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim), name
        for shard, right in zip(leaf.addressable_shards, want.addressable_shards, strict=True):
            assert np.array_equal(shard.data, right.data), (name, step)


@functools.partial(jax.jit, donate_argnums=0)
def next_state(state):
    """That of the next step, in the same memory."""

    def advance(x):
        if x.dtype == bool:
            return ~x
        # A bfloat16 counts to 256.
        return (x + 1) % 128 if x.dtype == jnp.bfloat16 else x + jnp.ones((), x.dtype)

    return jax.tree.map(advance, state)


def devices(folder: Path) -> None:
    placements = [(4,), (1,), (2,), (4, "d"), (2, "d"), (4,)]
    step, state = 0, state_at(0, devices_sharding(*placements[0]))
    for placement in placements[1:]:
        checkpoints = Checkpoints(folder)
        for _ in range(3):
            state, step = next_state(state), step + 1
        checkpoints.save(step, state, ABOUT)
        for _ in range(2):
            state = next_state(state)
        jax.block_until_ready(state)
        checkpoints.close()
        target = devices_sharding(*placement)
        found, state = Checkpoints(folder).restore(like(target), ABOUT)
        assert found == step
        check_state(state, step, target)
    print("restored", step)


def forever(folder: Path) -> None:
    warnings.simplefilter("error")
    checkpoints, sharding = Checkpoints(folder), devices_sharding(1)
    step, state = checkpoints.restore(like(sharding), ABOUT) or (0, state_at(0, sharding))
    while True:
        state, step = next_state(state), step + 1
        checkpoints.save(step, state, ABOUT)
        if step % 2 == 0:
            print(checkpoints.wait(), flush=True)


def full(folder: Path) -> None:
    checkpoints, sharding, newest = Checkpoints(folder), devices_sharding(1), []
    for step, width in ((1, 8), (2, 4096), (3, 8)):
        checkpoints.save(step, state_at(step, sharding, kernel_shape=(128, width)), ABOUT)
        newest.append(checkpoints.wait())
    print("finished", *newest)


def process(folder: Path, port: str, number: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(number))
    for axes in ((), ("d",)):
        sharding = devices_sharding(4, *axes)
        checkpoints = Checkpoints(folder / f"{len(axes)}")
        assert checkpoints.restore(like(sharding), ABOUT) is None
        state = state_at(0, sharding)
        for step in range(1, 3):
            state = next_state(state)
            checkpoints.save(step, state, ABOUT)
        assert checkpoints.wait() == 2
        if number == "0":
            (folder / f"{len(axes)}" / "2" / "checkpoint.json").unlink()
        found, state = Checkpoints(folder / f"{len(axes)}").restore(like(sharding), ABOUT)
        assert found == 1
        check_state(state, 1, sharding)
    print("restored", found)


if __name__ == "__main__":
    {"devices": devices, "forever": forever, "full": full, "process": process}[sys.argv[1]](
        Path(sys.argv[2]), *sys.argv[3:]
    )
