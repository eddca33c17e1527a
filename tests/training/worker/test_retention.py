"""The newest checkpoints stay, and the best of all."""

from __future__ import annotations

import pytest

from registry.tuning.records import Checkpoint
from training.worker.retention import Retention


def checkpoint(step: int, model: str | None = "sql.ckpt@1", **metrics: float) -> Checkpoint:
    return Checkpoint(f"c{step}", 0, step, metrics, model)


@pytest.mark.parametrize(
    ("newest", "gone"), [(None, []), (0, [1, 3, 4]), (1, [1, 3]), (2, [1]), (9, [])]
)
def test_the_newest_stay_and_the_best(newest: int | None, gone: list[int]) -> None:
    """Step 2 is the best; step 5 was never a version."""
    losses = {1: 0.9, 2: 0.4, 3: 0.5, 4: 0.6}
    found = [checkpoint(step, valid_loss=loss) for step, loss in losses.items()]
    found.append(checkpoint(5, None, valid_loss=0.1))
    assert sorted(c.step for c in Retention(newest).superfluous(found)) == gone


def test_a_validation_tells_more_than_training_and_that_more_than_nothing() -> None:
    held, seen, none = (
        checkpoint(1, train_loss=0.2, valid_loss=0.7),
        checkpoint(2, train_loss=0.1),
        checkpoint(3),
    )
    assert Retention(0).superfluous([held, seen, none]) == (none, seen)
    assert Retention(0).superfluous([seen, none]) == (none,)
    assert Retention(0).superfluous([]) == ()
