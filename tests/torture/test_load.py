"""256 streams over 64 adapters: nobody is forgotten, and nothing is left over.

`HATSTAND_TORTURE=600` is how many seconds the long form takes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.torture.load import ENGINE, EVERYBODY, NAMES, QUESTION
from tests.torture.site import make_settings, server_process, until_idle
from tests.torture.soak import COLUMNS, soak
from tests.torture.watching import serving_process

LONG = os.environ.get("HATSTAND_TORTURE")
SECONDS = float(LONG or "3")
MOST_GROWTH = 64 << 20  # bytes in the second half of the long form; a short one is still filling up


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_every_accepted_stream_comes_to_an_end(tmp_path: Path) -> None:
    with server_process(make_settings(tmp_path, NAMES, ENGINE)) as (url, process):
        pid = serving_process(process.pid)
        run = asyncio.run(soak(url, pid, EVERYBODY, SECONDS, QUESTION))
        assert set(run.ends) <= {"done", "refused"}
        refused = [outcome for outcome in run.outcomes if outcome.end == "refused"]
        assert all(outcome.status == 429 and outcome.retry_after for outcome in refused)
        assert {o.adapter for o in run.outcomes if o.end == "done"} == set(NAMES)
        assert ENGINE.max_queue is not None
        assert 0 < run.most_waiting <= ENGINE.max_queue
        until_idle(url)
        sizes = [sample.resident for sample in run.samples]
        assert not LONG or sizes[-1] - sizes[len(sizes) // 2] < MOST_GROWTH
    run.write_csv(tmp_path / "soak.csv", window=SECONDS)
    header, *rows = (tmp_path / "soak.csv").read_text().splitlines()
    assert header.split(",") == list(COLUMNS)
    assert len(rows) >= 1
