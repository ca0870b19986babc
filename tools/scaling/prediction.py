"""How long a training step takes on n GPUs: a model of three terms, each of which is a number over a rate.

Every number that is assumed and not counted stands in this file; docs/scaling.md says where it is from.
"""

from dataclasses import dataclass

GB = 1e9
# Of a card's matrix rate, by a network of this kind; of a link's, by NCCL with large messages. Not measured here.
UTILISATION = 0.4
LINK_SHARE = 0.8
GPUS_OF_A_NODE = 8
# Bytes of a float32 parameter that AdamW's update moves: gradient twice (norm, update), parameter and both moments
# read and written.
UPDATE_BYTES = 4 * (2 + 2 + 4)


@dataclass(frozen=True)
class Card:
    """A GPU in a machine of eight.

    Attributes:
        rate: dense bfloat16 products, summed in float32, operations a second.
        memory: bytes a second.
        link: to the other GPUs of the machine, bytes a second in each direction.
        network: of the whole machine, bytes a second in each direction.
    """

    name: str
    rate: float
    memory: float
    link: float
    network: float


CARDS = (
    Card("H200 SXM", 989e12, 4800 * GB, 450 * GB, 8 * 50 * GB),
    Card("H100 SXM", 989e12, 3350 * GB, 450 * GB, 8 * 50 * GB),
    Card("A100 SXM", 312e12, 2039 * GB, 300 * GB, 8 * 25 * GB),
    Card("RTX 4090", 165e12, 1008 * GB, 32 * GB, 12.5 * GB),
)


@dataclass(frozen=True)
class Step:
    """What one GPU computes and sends in a step, whole arrays counted (`program.collective_bytes`).

    Attributes:
        flops: of one image.
        trained: parameters of the whole model.
        shared_out: whether each GPU keeps and updates only its part of them.
    """

    flops: float
    trained: int
    all_reduce: float
    all_gather: float
    reduce_scatter: float
    shared_out: bool


@dataclass(frozen=True)
class Prediction:
    """Seconds of one step on one GPU of n.

    `hidden` is the step where all that can is sent while something is computed, `exposed` where nothing is.
    """

    compute: float
    update: float
    communication: float

    @property
    def exposed(self) -> float:
        return self.compute + self.update + self.communication

    @property
    def hidden(self) -> float:
        return max(self.compute, self.communication) + self.update


def predict(step: Step, card: Card, gpus: int, batch: float) -> Prediction:
    """Of `gpus` cards in machines of eight, each with `batch` images.

    Collectives are rings: a card sends (n - 1) / n of an array that is gathered or summed and shared out, and twice
    that where it is summed for all (Patarasuk and Yuan, 2009). Rings that leave the machine are as fast as its network
    where that is slower than the links within.
    """
    bandwidth = card.link if gpus <= GPUS_OF_A_NODE else min(card.link, card.network)
    sent = (2 * step.all_reduce + step.all_gather + step.reduce_scatter) * (gpus - 1) / gpus
    parameters = step.trained / gpus if step.shared_out else step.trained
    return Prediction(
        compute=batch * step.flops / (card.rate * UTILISATION),
        update=parameters * UPDATE_BYTES / card.memory,
        communication=sent / (bandwidth * LINK_SHARE),
    )
