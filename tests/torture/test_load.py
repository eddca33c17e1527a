"""256 streams over 64 adapters: nobody is forgotten, and nothing is left over.

`HATSTAND_TORTURE=600` is how many seconds the long form takes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from tests.torture.load import ENGINE, NUM_ADAPTERS, NUM_STREAMS, soak
from tests.torture.site import make_settings, server_process, until_idle

LONG = os.environ.get("HATSTAND_TORTURE")
SECONDS = float(LONG or "3")
MOST_GROWTH = 64 << 20  # bytes in the second half of the long form; a short one is still filling up


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_every_accepted_stream_comes_to_an_end(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(NUM_ADAPTERS)]
    everybody = list(itertools.islice(itertools.cycle(names), NUM_STREAMS))
    with server_process(make_settings(tmp_path, names, ENGINE)) as (url, process):
        run = asyncio.run(soak(url, process.pid, everybody, SECONDS))
        assert set(run.ends) <= {"done", "refused"}
        assert {outcome.adapter for outcome in run.outcomes if outcome.end == "done"} == set(names)
        assert all(o.retry_after for o in run.outcomes if o.end == "refused")
        until_idle(url)
        sizes = [size for _, size in run.memory]
        assert not LONG or sizes[-1] - sizes[len(sizes) // 2] < MOST_GROWTH
