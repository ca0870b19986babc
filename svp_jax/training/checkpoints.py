"""The training state on disk: Orbax, pruned, finished or not there."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from svp_jax.errors import UserError

KEEP = 2


class TrainingState:
    """Saves and restores (trained parameters, optimizer state) by step number below one folder.

    The random state needs no saving: keys and batches are functions of (seed, step).
    """

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._folder = Path(folder)
        self._manager = ocp.CheckpointManager(self._folder.resolve(), options=options)

    def latest_step(self) -> int | None:
        """The number of finished steps of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, trained: dict, opt_state) -> None:
        """Writes a checkpoint after `step` finished steps; older ones but one are deleted.

        Raises:
            UserError: it cannot be written, as on a full disk; the checkpoint before stays.
        """
        state = {"trained": trained, "optimizer": jax.tree.leaves(opt_state)}
        try:
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
        except (OSError, ValueError) as error:
            # The library below reports a refused write as either.
            raise UserError(
                f"{self._folder}: cannot write the checkpoint of step {step} ({str(error)[:200]}); free space, then "
                "run the same command again"
            ) from error

    def restore(self, step: int, trained: dict, opt_state) -> tuple[dict, object]:
        """The state saved after `step`, shaped like the given (freshly made) one."""
        leaves, tree = jax.tree.flatten(opt_state)
        like = {"trained": trained, "optimizer": leaves}
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return state["trained"], jax.tree.unflatten(tree, state["optimizer"])

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()
