"""256 streams over more adapters than slots on a device, through HTTP: what becomes of each.

`python -m tests.gpu.bench_soak SECONDS`: a base of the 7B shape, its clients in a process of their
own. First `crowds.py` compares `--adapter-share`s, with `--look` telling after each round what came
to the process's memory; then the streams. Halfway all of the device's free memory is taken away for
a second, while adapters come and go; whoever finds none is told so, and everybody else goes on. A
table and curves go to $OUT, if it is set.
"""

from __future__ import annotations

import argparse
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
from tests.gpu.crowds import compare_shares
from tests.gpu.nf4_base import write_nf4_base, write_random_adapter
from tests.gpu.shapes import MISTRAL_7B, open_unhashed
from tests.gpu.want_of_memory import no_memory_left
from tests.support.serving import FolderSource
from tests.torture.asking import Question
from tests.torture.memory import Look

NUM_STREAMS, NUM_ADAPTERS, NUM_FILES = 256, 96, 8
NUM_TOKENS, NUM_WORDS = 64, 20
SPREAD = 0.3  # of the lengths of answers beside crowds
WARM_UP = 15.0  # seconds of the soak, which are not counted
REST = 2.0  # seconds, before memory is looked at
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
        return EngineSettings(max_slots=24, max_rank=16, kv_memory=64 << 20, host_memory=1 << 20)
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


def take_memory(after: float) -> None:
    """For a second, so many seconds from now."""
    time.sleep(after)
    with no_memory_left():
        print("the device's memory is taken", flush=True)
        time.sleep(1)
    print("and given back", flush=True)


def soak(engine: Engine, url: str, folder: Path, out: Path, seconds: float) -> None:
    """256 streams, by `tests.torture.soak` in a process of its own."""
    names = folder / "names.json"
    names.write_text(json.dumps([f"a{number % NUM_ADAPTERS}" for number in range(NUM_STREAMS)]))
    numbers = map(str, (os.getpid(), seconds, NUM_TOKENS, NUM_WORDS))
    client = [sys.executable, "-m", "tests.torture.soak", url, *numbers]
    subprocess.run([*client, str(names), str(out / "soak.csv")], check=True)
    stats = engine.stats()
    print(f"steps {stats.num_steps}, tokens {stats.num_generated_tokens}")
    print(f"adapter loads {stats.num_adapter_loads}, evictions {stats.num_adapter_evictions}")
    print(f"preemptions {stats.num_preemptions}")
    print(f"left: running {stats.num_running}, waiting {stats.num_waiting}", flush=True)


def compare(engine: Engine, url: str, *, seconds: float, rounds: int, looks: bool) -> None:
    """Shares, and what came to this process's memory from round to round, at rest."""
    taken: list[Look] = []

    def look() -> None:
        time.sleep(REST)
        taken.append(Look.now())
        if len(taken) > 1:
            before, now = taken[-2:]
            print(f"{now.at - before.at:.0f} s later, MiB:", *now.since(before), sep="\n  ")

    question = Question(NUM_TOKENS, NUM_WORDS, SPREAD)
    compare_shares(
        engine,
        url,
        question,
        seconds=seconds,
        rounds=rounds,
        after_round=look if looks else lambda: None,
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, help="of the soak; 0: none")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--look", action="store_true", help="at the process's memory")
    parser.add_argument("--crowds", type=float, default=5.0, help="seconds of each; 0: none")
    parser.add_argument("--rounds", type=int, default=2, help="of the crowds")
    return parser.parse_args()


def main(chosen: argparse.Namespace) -> None:
    ram = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="hatstand-", dir=ram if ram.exists() else None))
    out = Path(os.environ.get("OUT", folder))
    try:
        base, adapters = write_parts(folder, chosen.layers, chosen.device)
        engine = build_engine(base, FolderSource(adapters, base), settings_for(chosen.device))
        with serving_engine(engine, base) as (host, port):
            url = f"http://{host}:{port}"
            if (length := chosen.crowds) > 0:
                compare(engine, url, seconds=length, rounds=chosen.rounds, looks=chosen.look)
            if chosen.seconds <= 0:
                return
            if chosen.device == "cuda":
                after = WARM_UP + chosen.seconds / 2
                threading.Thread(target=take_memory, args=(after,), daemon=True).start()
            soak(engine, url, folder, out, chosen.seconds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(options())
