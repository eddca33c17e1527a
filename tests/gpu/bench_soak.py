"""256 streams over more adapters than slots on a device, through HTTP: what becomes of each.

`python -m tests.gpu.bench_soak SECONDS [LAYERS] [DEVICE]`: a base of the 7B shape, its clients in a
process of their own. Halfway all of the device's free memory is taken away for a second, while
adapters come and go; whoever finds none is told so, and everybody else goes on. A table and curves
go to $OUT, if it is set. Then sixteen adapters with a stream each, alone and beside a hundred and a
thousand streams of one, for several `--adapter-share`s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from server.bases import Base
from server.bench.device_http import serving_engine
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.engine import Engine
from tests.gpu.nf4_base import write_nf4_base, write_random_adapter
from tests.gpu.shapes import MISTRAL_7B, open_unhashed
from tests.gpu.want_of_memory import no_memory_left
from tests.support.serving import FolderSource
from tests.torture.asking import Question
from tests.torture.crowding import Crowding, crowding

NUM_STREAMS, NUM_ADAPTERS, NUM_FILES = 256, 96, 8
NUM_TOKENS, NUM_WORDS = 64, 20
GUESTS, CROWD, THRONG = 16, 100, 1000  # adapters with a stream each; streams of one
SHARES = (1.0, 0.25, 0.125)
FAIRNESS_SECONDS = 5.0  # of each case
TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}


def settings_for(device: str) -> EngineSettings:
    """Half as many slots as adapters, and host memory for two thirds of them."""
    if device == "cpu":
        return EngineSettings(max_slots=8, max_rank=16, kv_memory=64 << 20, host_memory=1 << 20)
    return replace(
        EngineSettings.on(device),
        max_slots=NUM_ADAPTERS // 2,
        max_rank=16,
        kv_memory=24 << 30,
        host_memory=6 << 30,
        weights="nf4",
    )


def write_parts(folder: Path, layers: int, device: str) -> tuple[Base, dict[str, Path]]:
    """A random base, and folders by adapter; several adapters share one's files."""
    shape = {**MISTRAL_7B, "num_hidden_layers": layers, **({} if device == "cuda" else TINY)}
    base = open_unhashed(write_nf4_base(folder / "base", shape, device=device))
    files = [
        write_random_adapter(folder / f"files{number}", base.record, rank=16, device=device)
        for number in range(NUM_FILES)
    ]
    return base, {f"a{number}": files[number % NUM_FILES] for number in range(NUM_ADAPTERS)}


def take_memory_once(after: float) -> None:
    """For a second, so many seconds from now."""
    time.sleep(after)
    with no_memory_left():
        print("the device's memory is taken", flush=True)
        time.sleep(1)
    print("and given back", flush=True)


def compare_shares(engine: Engine, url: str) -> None:
    """What a crowd costs guests, by what one adapter may have."""
    question = Question(NUM_TOKENS, NUM_WORDS)

    def cost(num_crowd: int, share: float) -> Crowding:
        engine.fair_time.fraction = share
        return crowding(url, GUESTS, num_crowd, FAIRNESS_SECONDS, question)

    cost(0, 1.0)  # their adapters come into slots
    alone = cost(0, 1.0)
    print(alone.line(f"{GUESTS} adapters alone", alone), flush=True)
    for share in SHARES:
        line = cost(CROWD, share).line(f"share {share:g}: beside {CROWD} of one", alone)
        print(line, flush=True)
    line = cost(THRONG, SHARES[-1]).line(f"share {SHARES[-1]:g}: beside {THRONG} of one", alone)
    print(line, flush=True)


def main(seconds: float, layers: int, device: str) -> None:
    ram = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="hatstand-", dir=ram if ram.exists() else None))
    out = Path(os.environ.get("OUT", folder))
    try:
        base, adapters = write_parts(folder, layers, device)
        engine = build_engine(base, FolderSource(adapters, base), settings_for(device))
        with serving_engine(engine, base) as (host, port):
            names = [f"a{number % NUM_ADAPTERS}" for number in range(NUM_STREAMS)]
            (folder / "names.json").write_text(json.dumps(names))
            if device == "cuda":
                threading.Thread(
                    target=take_memory_once, args=(15 + seconds / 2,), daemon=True
                ).start()
            client = [sys.executable, "-m", "tests.torture.soak", f"http://{host}:{port}"]
            numbers = map(str, (os.getpid(), seconds, NUM_TOKENS, NUM_WORDS))
            subprocess.run(
                [*client, *numbers, str(folder / "names.json"), str(out / "soak.csv")], check=True
            )
            stats = engine.stats()
            print(f"steps {stats.num_steps}, tokens {stats.num_generated_tokens}")
            print(
                f"adapter loads {stats.num_adapter_loads}, evictions {stats.num_adapter_evictions}"
            )
            print(f"preemptions {stats.num_preemptions}")
            print(f"left: running {stats.num_running}, waiting {stats.num_waiting}")
            compare_shares(engine, f"http://{host}:{port}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(
        float(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else 32,
        sys.argv[3] if len(sys.argv) > 3 else "cuda",
    )
