"""Where a run's figures go, on real runs of a few steps."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console
from transformers import TrainerCallback

from training.commands import train
from training.errors import MissingExtra, RecipeError
from training.recipe import TrackingSettings
from training.tracking.choice import find_callback, trackers
from training.tracking.figures import FigureTracker


class Determined(TrainerCallback):
    """Stands for a platform's own callback, as seed 001 plugs one in."""

    seen: tuple[int, ...] = ()

    def on_log(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        Determined.seen += (int(state.global_step),)


class Failing(TrainerCallback):
    """Breaks a run after its second step."""

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 2:
            raise OSError("the disk is gone")


def run(recipe: Path, *overrides: str) -> None:
    train(recipe, ["evaluate.rows=0", *overrides], console=Console(file=io.StringIO()))


def test_events_and_tensorboard_by_default(write_recipe: Any, hatstand_home: Path) -> None:
    run(write_recipe())
    folder = hatstand_home / "runs" / "out"
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert lines[0]["event"] == "begin"
    assert lines[0]["arguments"]["max_steps"] == 3
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert list(losses) == [1, 2, 3]
    assert any("eval/loss" in line for line in lines)
    assert lines[-1]["event"] == "end"
    assert scalars(folder)["train/loss"] == pytest.approx(losses, rel=1e-6)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars by tag and step, read from its files as they are specified.

    A record is an 8-byte length, 4 bytes of checksum, that many bytes of an Event, 4 more.
    """
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
            content = content[16 + length :]
    return found


def test_entries_may_be_rarer_but_validations_are_all_there(
    write_recipe: Any, tmp_path: Path
) -> None:
    run(write_recipe(), "tracking.every=2", f"tracking.folder={tmp_path / 'here'}")
    lines = (tmp_path / "here" / "events.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if '"train/loss"' in line]
    assert steps == [2]


def test_a_callback_by_its_dotted_path(write_recipe: Any) -> None:
    Determined.seen = ()
    path = f"{__name__}.Determined"
    run(write_recipe(), f"tracking.callbacks=[{path}]", "tracking.report_to=[]")
    assert set(Determined.seen) == {0, 1, 2, 3}


def test_wandb_offline(write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "here"
    run(
        write_recipe(),
        "tracking.report_to=[wandb]",
        "tracking.wandb={project: hats, entity: us, watch: true, log_model: true}",
        f"tracking.folder={folder}",
        "train.save_every=2",
    )
    wandb.teardown()  # its own process may still be writing
    [kept] = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    for part in (b"train/loss", b"hats", b"gradients/", b"out-checkpoint", b"adapter_model.safe"):
        assert part in content, part


def test_a_run_that_fails_is_ended_too(write_recipe: Any, hatstand_home: Path) -> None:
    path = f"{__name__}.Failing"
    with pytest.raises(OSError, match="the disk is gone"):
        run(write_recipe(), f"tracking.callbacks=[{path}]", "tracking.report_to=[jsonl]")
    lines = (hatstand_home / "runs" / "out" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines][:: len(lines) - 1] == ["begin", "end"]


def test_what_did_not_begin_has_no_end() -> None:
    """So that its own error is the one that is seen."""

    class Unreachable(FigureTracker):
        def begin(self, _about: Mapping[str, Any], _model: Any) -> None:
            raise ConnectionError("nobody there")

        def figures(self, _step: int, _values: Mapping[str, float]) -> None:
            raise AssertionError

        def end(self) -> None:
            raise AssertionError

    tracker = Unreachable(every=1)
    arguments = Mock(to_sanitized_dict=dict)
    with pytest.raises(ConnectionError):
        tracker.on_train_begin(arguments, Mock(is_world_process_zero=True), None)
    tracker.close()


def test_what_is_no_callback_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.Callback cannot be imported"):
        find_callback("nowhere.Callback")
    with pytest.raises(RecipeError, match=r"json\.JSONDecoder is no transformers"):
        find_callback("json.JSONDecoder")


def test_a_missing_tracker_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.tracking.choice.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"hatstand\[wandb\]"):
        trackers(TrackingSettings(report_to=("wandb",)), Path("out"))
