"""lm-evaluation-harness itself, against a server and against transformers on the same weights.

`.ci/tools` makes its environment. What `local-completions` needs of a server
is `echo` with the prompt's log-probabilities, prompts as lists of token ids, and `stop`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from registry import Registry
from registry.bases import read_base
from server.api.app import create_app
from server.bases import open_base
from server.engine.build import build_engine, start_worker
from server.engine.config import EngineSettings
from server.residency import RegistrySource
from tests.server.api.fakes import LiveServer
from tests.support.tiny import TinyAdapter, write_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

HERE = Path(__file__).parent
PYTHON = Path(__file__).parents[3] / ".cache" / "tools" / "lm_eval" / "bin" / "python"
NATS = 1e-3  # of a whole continuation, both sides in fp32


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter that has lm_eval beside this environment's torch."""
    if not PYTHON.exists():
        missing = "lm_eval is not there: .ci/tools brings it"
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail(missing)
        pytest.skip(missing)
    return PYTHON


@pytest.fixture(scope="module")
def found(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both models answered, with the base and with an adapter."""
    root = tmp_path_factory.mktemp("lm_eval")
    # One row of logits for each token: lm_eval resizes what it puts an adapter on to its tokenizer.
    base = write_tiny_base(root / "tiny", vocab_size=258)
    adapter = TinyAdapter("sql").write(base, root / "sql")
    with served(base, adapter, root / "registry") as live:
        done = subprocess.run(
            [python, HERE / "evaluate.py", base, adapter, live.url],
            cwd=HERE / "tasks",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(root / "hf")},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def served(base: Path, adapter: Path, folder: Path) -> LiveServer:
    """A whole server that computes in fp32 on dense weights, unlike `hatstand serve`."""
    registry = Registry.open(folder)
    registry.push(adapter, "sql", base=read_base(base))
    opened = open_base(str(base))
    source = RegistrySource(registry, opened.record, opened.config, 8)
    settings = EngineSettings(
        weights="dense", dtype=torch.float32, kv_memory=8 << 20, max_rank=8, max_slots=2
    )
    worker = start_worker(build_engine(opened, source, settings))
    return LiveServer(SimpleNamespace(app=create_app(worker, registry, opened)))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["base", "adapter"])
class TestSameAnswers:
    """Both ways to evaluate one model come to the same."""

    @pytest.mark.parametrize("task", ["tiny_choice", "tiny_likelihood"])
    def test_continuations(self, found: dict[str, Any], model: str, task: str) -> None:
        ours, theirs = answers(found, model, task)
        assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
        scores = [score for score, _ in ours]
        assert scores == pytest.approx([score for score, _ in theirs], abs=NATS)

    def test_one_greedy_continuation_is_among_them(self, found: dict[str, Any], model: str) -> None:
        ours, _ = answers(found, model, "tiny_likelihood")
        assert [greedy for _, greedy in ours].count(True) == 1

    def test_whole_texts(self, found: dict[str, Any], model: str) -> None:
        ours, theirs = answers(found, model, "tiny_rolling")
        assert ours == pytest.approx(theirs, abs=NATS)

    def test_generated_texts(self, found: dict[str, Any], model: str) -> None:
        ours, theirs = answers(found, model, "tiny_generate")
        assert ours == theirs

    def test_metrics(self, found: dict[str, Any], model: str) -> None:
        for task, ours in found[model]["http"]["metrics"].items():
            theirs = found[model]["hf"]["metrics"][task]
            named = {name for name, value in ours.items() if isinstance(value, float)}
            assert named
            for name in named:
                assert ours[name] == pytest.approx(theirs[name], rel=NATS), (task, name)


def test_the_adapter_is_no_base(found: dict[str, Any]) -> None:
    base, _ = answers(found, "base", "tiny_rolling")
    adapter, _ = answers(found, "adapter", "tiny_rolling")
    assert base != pytest.approx(adapter, abs=1)


def answers(found: dict[str, Any], model: str, task: str) -> tuple[list[Any], list[Any]]:
    """What was answered to each request over HTTP, and by transformers."""
    ours, theirs = (found[model][way]["answers"][task] for way in ("http", "hf"))
    return flat(ours), flat(theirs)


def flat(rows: list[Any]) -> list[Any]:
    """Each row has a list of requests, and each of these a list of one answer."""
    return [tuple(one) if isinstance(one, list) else one for row in rows for [one] in row]
