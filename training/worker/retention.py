"""Which checkpoints of a job stay versions that can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.tuning.records import Checkpoint

KEPT = 3  # as OpenAI keeps them


@dataclass(frozen=True)
class Retention:
    """Keeps a job's `newest` checkpoints and its best one; None keeps all."""

    newest: int | None = KEPT

    def superfluous(self, checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
        """Those of one job, in any order, whose versions nobody needs any more."""
        if self.newest is None:
            return ()
        published = sorted((each for each in checkpoints if each.model), key=lambda c: -c.step)
        old = published[self.newest :]
        best = min(published, key=_loss, default=None)
        return tuple(each for each in old if each != best)


def _loss(checkpoint: Checkpoint) -> tuple[bool, float]:
    """The validation's comes before the training's, and either before none."""
    metrics = checkpoint.metrics
    if "valid_loss" in metrics:
        return False, metrics["valid_loss"]
    return True, metrics.get("train_loss", float("inf"))
