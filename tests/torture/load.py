"""256 streams over 64 adapters: `python -m tests.torture.load SECONDS [FOLDER]`.

Into FOLDER go soak.csv and soak.png. Server and clients each keep to a core of their own where the
system lets them. `python -m tests.torture.fairness` is about one adapter against the others.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from pathlib import Path

from server.settings import EngineOptions
from tests.torture.asking import Question
from tests.torture.cores import served_apart
from tests.torture.curves import draw
from tests.torture.site import make_settings, until_idle
from tests.torture.soak import soak

NUM_ADAPTERS = 64
NUM_STREAMS = 256
WARM_UP = 20.0  # seconds, before anything is counted
QUESTION = Question(num_tokens=8)
# Fewer places than streams, so that some are always told to come back.
ENGINE = EngineOptions(device="cpu", kv_memory=16 << 20, max_rank=8, max_slots=16, max_queue=160)
NAMES = [f"a{number}" for number in range(NUM_ADAPTERS)]
EVERYBODY = list(itertools.islice(itertools.cycle(NAMES), NUM_STREAMS))


def main() -> None:
    """Print the figures of docs/reliability.md."""
    seconds = float(sys.argv[1])
    kept = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), NAMES, ENGINE)
        with served_apart(settings) as (url, serving):
            asyncio.run(soak(url, serving, EVERYBODY, min(WARM_UP, seconds), QUESTION))
            run = asyncio.run(soak(url, serving, EVERYBODY, seconds, QUESTION))
            until_idle(url)
    title = f"{NUM_STREAMS} streams over {NUM_ADAPTERS} adapters, {seconds:.0f} s"
    print(run.summary(title))
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        run.write_csv(kept / "soak.csv", window=max(1.0, seconds / 120))
        draw(kept / "soak.csv", kept / "soak.png", f"{title}; tiny Mistral on one core")


if __name__ == "__main__":
    main()
