"""Which parameters are trained: ordered rules over flat names, each parameter covered by exactly the first match."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Rules = Sequence[tuple[str, float | None]]
Flat = dict[str, object]

CONTROLNET = (r"controlnet/.*", 1.0)
# sd_locked=False of the original ControlNet code (cldm/cldm.py, configure_optimizers) adds `output_blocks` and
# `out`, which diffusers calls up_blocks, conv_norm_out and conv_out. time_embedding stays frozen.
UNET_DECODER = r"unet/(up_blocks|conv_norm_out|conv_out)/.*"
REST_FROZEN = (r"unet/.*", None)
# post_quant_conv stands between the latent and the decoder, so it belongs to the decoder's side.
VAE_DECODER = r"vae/(decoder|post_quant_conv)/.*"


def stage_rules(trainable: str, unet_multiplier: float) -> Rules:
    """The rules of a stage: `locked`, `unlocked` or `full` (unlocked: 872M of SD 1.5).

    `unet_multiplier` scales the learning rate of the UNet's trained part.
    """
    if trainable == "locked":
        return (CONTROLNET, REST_FROZEN)
    if trainable == "unlocked":
        return (CONTROLNET, (UNET_DECODER, unet_multiplier), REST_FROZEN)
    if trainable == "full":
        return (CONTROLNET, (r"unet/.*", unet_multiplier))
    raise ValueError(f"trainable is {trainable!r}, allowed are locked, unlocked, full")


def vae_rules(trainable: str) -> Rules:
    """The rules of the VAE pass: `decoder` or `all`."""
    if trainable == "decoder":
        return ((VAE_DECODER, 1.0), (r"vae/.*", None))
    if trainable == "all":
        return ((r"vae/.*", 1.0),)
    raise ValueError(f"trainable is {trainable!r}, allowed are decoder, all")


@dataclasses.dataclass(frozen=True)
class Structure:
    """What remains of a model without its arrays: enough to put flat parameters back together."""

    graph: nnx.GraphDef
    tree: jax.tree_util.PyTreeDef
    names: tuple[str, ...]


def flatten(models: Mapping[str, nnx.Module]) -> tuple[dict[str, Structure], Flat]:
    """Splits models into their structures and one flat dictionary `model/path/to/parameter` -> array."""
    structures, flat = {}, {}
    for model_name, model in models.items():
        graph, state = nnx.split(model)
        leaves, tree = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
        names = tuple("/".join((model_name, *(str(key.key) for key in path))) for path, _ in leaves)
        structures[model_name] = Structure(graph, tree, names)
        flat.update(zip(names, (leaf for _, leaf in leaves), strict=True))
    return structures, flat


def assemble(structures: Mapping[str, Structure], flat: Flat) -> dict[str, nnx.Module]:
    """The inverse of `flatten`; traceable."""
    return {
        name: nnx.merge(s.graph, jax.tree_util.tree_unflatten(s.tree, [flat[n] for n in s.names]))
        for name, s in structures.items()
    }


def multipliers(names: Sequence[str], rules: Rules) -> dict[str, float | None]:
    """The learning rate multiplier of each parameter, None for frozen; the first matching rule decides.

    Raises:
        ValueError: a parameter that no rule covers, or a rule that covers none; all are named.
    """
    result, used = {}, set()
    for name in names:
        for index, (pattern, multiplier) in enumerate(rules):
            if re.fullmatch(pattern, name):
                result[name] = multiplier
                used.add(index)
                break
    problems = [f"no rule covers {name}" for name in names if name not in result]
    problems += [f"rule {rules[i][0]!r} covers no parameter" for i in range(len(rules)) if i not in used]
    if problems:
        raise ValueError("; ".join(problems))
    return result


def divide(flat: Flat, rules: Rules) -> tuple[Flat, Flat, dict[str, float]]:
    """(trained parameters, frozen parameters, multiplier of each trained one)."""
    by_name = multipliers(list(flat), rules)
    trained = {name: value for name, value in flat.items() if by_name[name] is not None}
    frozen = {name: value for name, value in flat.items() if by_name[name] is None}
    return trained, frozen, {name: by_name[name] for name in trained}


def table(flat: Flat, rules: Rules) -> str:
    """One line for each rule: pattern, multiplier, number of tensors and of parameters."""
    rows = []
    for pattern, multiplier in rules:
        # Only what the earlier rules left counts for a rule.
        taken = [n for n in flat if next(p for p, _ in rules if re.fullmatch(p, n)) == pattern]
        count = sum(flat[name].size for name in taken)
        rate = "frozen" if multiplier is None else f"lr x {multiplier:g}"
        rows.append(f"{pattern:<48} {rate:<10} {len(taken):5d} tensors {count / 1e6:9.2f} M")
    return "\n".join(rows)


def rounded(frozen: Flat, precision: str) -> Flat:
    """Frozen parameters as they are kept while others are trained: kernels in what they are computed in, "float32" or
    "bfloat16"; the small rest as it is."""
    if precision == "float32":
        return frozen
    return {name: np.asarray(x).astype(jnp.bfloat16) if x.ndim > 1 else x for name, x in frozen.items()}
