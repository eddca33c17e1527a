"""`--replicas 2`: two engines behind one port, and adapters that stay where they are.

All in one file, so that its processes are started once.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.replicas.processes import ENGINE, Process, eventually, process
from tests.server.replicas.traffic import (
    ADAPTERS,
    REPLICAS,
    SLOTS,
    TRAFFIC,
    hits_at_random,
    push_adapters,
)
from tests.support.bridle import Bridle
from tests.support.ports import free_port

OPTIONS = (f"--replicas={REPLICAS}", f"--max-slots={SLOTS}")
ACTIVATIONS = 'vllm:lora_adapter_load_seconds_count{{replica="{}",transition="activate"}}'


@pytest.fixture(scope="module")
def bridle(tmp_path_factory: pytest.TempPathFactory) -> Bridle:
    return Bridle.put_on(tmp_path_factory.mktemp("bridle") / "site")


@pytest.fixture(scope="module")
def host(base: Path, bridle: Bridle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("one-host")
    registry = push_adapters(root, base)
    port = free_port()
    command = [sys.executable, "-m", "clients", "serve", f"--base={base}", f"--port={port}"]
    command += [*ENGINE, *OPTIONS, f"--registry={registry.folder}"]
    environ = {"HATSTAND_HOME": str(root / "home"), "OMP_NUM_THREADS": "", **bridle.environment}
    with process(command, f"http://127.0.0.1:{port}", root / "log", environ) as host:
        eventually("both are ready", lambda: num_ready(host) == REPLICAS)
        yield host


def num_ready(host: Process) -> int:
    assert host.popen.poll() is None, host.log.read_text()[-3000:]
    return round(sum(series(host, "hatstand_replica_ready").values()))


def series(host: Process, name: str) -> dict[str, float]:
    """A metric's values by the replica's number ("" where it has none)."""
    found = {}
    for line in host.get("/metrics").text.splitlines():
        labels, _, value = line.rpartition(" ")
        if labels.partition("{")[0] == name:
            replica = re.search('replica="(.)"', labels)
            found[replica[1] if replica else ""] = float(value)
    return found


def activations(host: Process) -> list[int]:
    """How many adapters each engine itself counts as written into a slot."""
    text = host.get("/metrics").text
    starts = [ACTIVATIONS.format(number) + " " for number in range(REPLICAS)]
    lines = [line for line in text.splitlines() if line.startswith(tuple(starts))]
    return [int(float(line.rpartition(" ")[2])) for line in lines]


def test_adapters_stay_where_they_are(host: Process) -> None:
    before = sum(activations(host))
    answered: dict[str, set[str]] = {name: set() for name in ADAPTERS}
    with httpx.Client(base_url=host.url, timeout=60) as client:
        for name in TRAFFIC:
            body = {"model": name, "prompt": "x", "max_tokens": 1}
            answer = client.post("/v1/completions", json=body)
            assert answer.headers["x-hatstand-adapter"] == f"{name}@1"
            answered[name].add(answer.headers["x-hatstand-replica"])
    # The parent looks at its replicas twice a second, or less often on a busy machine.
    eventually("all are counted", lambda: sum(activations(host)) - before >= len(ADAPTERS))
    loaded = activations(host)
    hits = 1 - (sum(loaded) - before) / len(TRAFFIC)
    print(f"in a slot: {hits:.1%}; at random {hits_at_random():.1%}")
    assert all(len(replicas) == 1 for replicas in answered.values())
    assert loaded == [SLOTS, SLOTS]  # each adapter was loaded once
    assert hits > 0.9 > hits_at_random()


def test_each_process_began_with_its_own_environment(host: Process) -> None:
    """CUDA_VISIBLE_DEVICES is handed over like that, and read before any of our code runs."""
    threads = f"OMP_NUM_THREADS={max(1, len(os.sched_getaffinity(0)) // REPLICAS)}"
    for pid in (host.popen.pid, *replica_processes(host)):
        environ = Path(f"/proc/{pid}/environ").read_text().split("\0")
        assert (threads in environ) == (pid != host.popen.pid)


def test_what_was_sent_arrives(host: Process) -> None:
    """Bodies that come in many pieces, and requests that replicas refuse."""
    words = "word " * 40_000
    longer = host.ask("task0", prompt=words)
    assert (longer.status_code, longer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert str(len(words)) in longer.text  # a token for each byte of it
    assert host.ask("task0", prompt="x" * (9 << 20)).status_code == 413
    assert host.ask("nobody").status_code == 404
    nameless = httpx.post(f"{host.url}/v1/completions", content=b"[1, 2", timeout=60)
    assert nameless.json()["error"]["code"] == "invalid_json"
    assert {model["id"] for model in host.get("/v1/models").json()["data"]} >= set(ADAPTERS)
    assert host.get("/nowhere").status_code == 404


def test_what_is_no_http_is_refused(host: Process) -> None:
    assert said_to(host, b"\x00\x01\x02\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_client_may_wait_to_be_told_to_send_its_body(host: Process) -> None:
    body = b'{"model": "task0", "prompt": "x", "max_tokens": 1}'
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
    head += b"content-length: %d\r\n\r\n" % len(body)
    with connected(host) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert b"HTTP/1.1 200 " in read_all(connection)


def test_unloading_reaches_whoever_has_it(host: Process) -> None:
    assert host.ask("task3").status_code == 200
    url, body = f"{host.url}/v1/unload_lora_adapter", {"lora_name": "task3"}
    assert httpx.post(url, json=body, timeout=60).text.startswith("Success")
    assert httpx.post(url, json=body, timeout=60).status_code == 404
    gone = 'hatstand_adapter_resident{adapter="task3@1"'
    eventually("no replica has it", lambda: gone not in host.get("/metrics").text)


def test_who_leaves_is_not_generated_for(host: Process) -> None:
    body = {"model": "task0", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{host.url}/v1/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    eventually(
        "nothing runs", lambda: sum(series(host, "hatstand_sequences_running").values()) == 0
    )


def test_of_a_killed_replica_another_answers_what_had_not_begun_and_streams_are_ended(
    host: Process, bridle: Bridle
) -> None:
    killed = threading.Event()

    def ask_until_then(name: str) -> list[httpx.Response]:
        told = [host.ask(name, max_tokens=300)]
        while not killed.is_set():
            told.append(host.ask(name, max_tokens=300))
        return told

    lines: dict[str, list[str]] = {name: [] for name in ADAPTERS}
    with ThreadPoolExecutor(2 * len(ADAPTERS)) as callers:
        with bridle.slow():  # or streams may end before the last one has begun
            reading = partial(read_stream, host, num_tokens=400)
            streams = callers.map(reading, lines, lines.values())
            answers = callers.map(ask_until_then, ADAPTERS)
            eventually("all streams have begun", lambda: all(lines.values()))
            running = partial(series, host, "hatstand_sequences_running")
            eventually("both work", lambda: all(running().values()))
            victim, *_ = replica_processes(host)
            os.kill(victim, signal.SIGKILL)
            killed.set()
        assert list(streams) == [None] * len(ADAPTERS)
        told = [answer for each in answers for answer in each]
    assert {answer.status_code for answer in told} == {200}
    assert {answer.json()["usage"]["completion_tokens"] for answer in told} == {300}
    ends = [each[-1] for each in lines.values()]
    cut = {end for end in ends if '"unavailable"' in end}
    assert cut
    assert {*ends} - cut <= {"data: [DONE]"}
    eventually("another is started", lambda: victim not in replica_processes(host))
    eventually("both are ready", lambda: num_ready(host) == REPLICAS)
    assert series(host, "hatstand_replica_restarts_total") == {"": 1}


def test_a_replica_that_hangs_is_replaced_and_its_requests_are_answered(host: Process) -> None:
    eventually("both are ready", lambda: num_ready(host) == REPLICAS)
    before = series(host, "hatstand_replica_restarts_total")[""]
    victim, *_ = replica_processes(host)
    os.kill(victim, signal.SIGSTOP)
    with ThreadPoolExecutor(len(ADAPTERS)) as callers:
        told = [*callers.map(host.ask, ADAPTERS)]
    assert [answer.status_code for answer in told] == [200] * len(ADAPTERS)
    assert len({answer.headers["x-hatstand-replica"] for answer in told}) == 1
    eventually("it was ended", lambda: victim not in replica_processes(host))
    eventually("another is started", lambda: num_ready(host) == REPLICAS)
    assert series(host, "hatstand_replica_restarts_total") == {"": before + 1}


def test_a_replica_that_can_open_no_more_files_is_passed_by(host: Process) -> None:
    crowded, *_ = replica_processes(host)
    with file_limit(crowded, 3):
        told = [host.ask(name) for name in ADAPTERS]
        assert [answer.status_code for answer in told] == [200] * len(ADAPTERS)
        assert len({answer.headers["x-hatstand-replica"] for answer in told}) == 1
    eventually("it is back", lambda: num_ready(host) == REPLICAS)
    assert crowded in replica_processes(host)


def test_when_the_parent_can_open_no_more_files_it_says_so(host: Process) -> None:
    pid, replicas = host.popen.pid, replica_processes(host)
    limit = max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()) + 1
    with file_limit(pid, limit), ExitStack() as silent:
        while (answer := host.ask("task0")).status_code == 200:  # it may have closed some meanwhile
            silent.enter_context(connected(host))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert float(answer.headers["retry-after"]) > 0
        silent.close()
        eventually("there is room again", lambda: host.ask("task0").status_code == 200)
    eventually("both are ready", lambda: num_ready(host) == REPLICAS)
    assert replica_processes(host) == replicas  # that the parent could not ask them is no fault


@contextmanager
def file_limit(pid: int, most: int) -> Iterator[None]:
    """A process may open files below this number only."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_sigterm_lets_everybody_finish_and_turns_new_ones_away(
    host: Process, bridle: Bridle
) -> None:
    lines: dict[str, list[str]] = {name: [] for name in ADAPTERS}
    readers = [threading.Thread(target=read_stream, args=(host, *each)) for each in lines.items()]
    with bridle.slow():  # they are not at their end before the drain's delay is
        for reader in readers:
            reader.start()
        eventually("all streams have begun", lambda: all(lines.values()))
        host.terminate()
        eventually("it says so", lambda: host.get("/readyz").status_code == 503)
        while (answer := host.ask("task1")).status_code == 200:  # until that delay is over
            assert answer.json()["usage"]["completion_tokens"] == 2
    assert answer.status_code == 503
    assert float(answer.headers["retry-after"]) > 0
    assert host.popen.wait(60) == 0
    for reader in readers:
        reader.join()
    assert {each[-1] for each in lines.values()} == {"data: [DONE]"}
    _, traceback, told = host.log.read_text().partition("Traceback")
    assert not traceback, told[:3000]


def read_stream(host: Process, model: str, lines: list[str], *, num_tokens: int = 160) -> None:
    asked = {"model": model, "prompt": "x", "max_tokens": num_tokens, "ignore_eos": True}
    body = {**asked, "stream": True}
    with httpx.stream("POST", f"{host.url}/v1/completions", json=body, timeout=60) as answer:
        lines.extend(line for line in answer.iter_lines() if line)


def replica_processes(host: Process) -> list[int]:
    """Process ids of the replicas that run."""
    pid = host.popen.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "server.supervision.inside" in _command_line(child)]


def _command_line(pid: str) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def connected(host: Process) -> socket.socket:
    address = urlsplit(host.url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


def said_to(host: Process, data: bytes) -> bytes:
    with connected(host) as connection:
        connection.sendall(data)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(partial(connection.recv, 4096), b""))
