"""What a run tells the queue, and what the queue tells a run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from transformers import TrainerCallback

from registry.errors import RegistryError
from registry.tuning import Job
from registry.tuning.claims import LEASE, Claims
from training.errors import TrainingStopped


class JobCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Notes steps and checkpoints; stops the run, with a checkpoint, once it is not wanted."""

    def __init__(self, claims: Claims, job: Job, is_wanted: Callable[[], bool]) -> None:
        self._claims = claims
        self._job = job
        self._is_wanted = is_wanted
        self._figures: dict[str, float] = {}
        self._num_tokens = 0
        self._is_stopping = False

    @property
    def figures(self) -> dict[str, float]:
        """The newest ones, by OpenAI's names."""
        return dict(self._figures)

    @property
    def num_tokens(self) -> int:
        """How many were trained on so far."""
        return self._num_tokens

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        self._num_tokens = int(state.num_input_tokens_seen)
        if not self._is_wanted():
            self._is_stopping = control.should_save = control.should_training_stop = True

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Trainer's names become OpenAI's."""
        step, total, logs = int(state.global_step), int(state.max_steps), logs or {}
        names = {"loss": "train_loss", "eval_loss": "valid_loss"}
        found = {names[key]: float(value) for key, value in logs.items() if key in names}
        if not found:
            return
        self._figures |= found
        words = ", ".join(f"{name}={value:.4f}" for name, value in found.items())
        data = {"step": step, "total_steps": total, **found}
        self._claims.note(self._job, f"Step {step}/{total}: {words}", data=data)

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._claims.saved(self._job, int(state.global_step), self._figures)

    def on_train_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if self._is_stopping:
            raise TrainingStopped(f"stopped after step {state.global_step}")


@contextlib.contextmanager
def signs_of_life(claims: Claims, job: Job) -> Iterator[None]:
    """Tell the queue now and then that the job is in hand, also while no step ends."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(LEASE / 4):
            with contextlib.suppress(RegistryError):  # a database that is away may come back
                claims.keep(job)

    thread = threading.Thread(target=beat, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
