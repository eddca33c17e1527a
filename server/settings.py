"""What one server is told at start: frozen, checked once, handed over as values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from registry.homes import default_registry
from registry.logs import LogFormat
from registry.loopback import is_loopback

from .api.keys import ApiKey, parse_keys, read_keys
from .errors import StartupError

Device = Literal["auto", "cpu", "cuda"]
Gemm = Literal["exact", "fast", "batch-invariant"]
PrefixScope = Literal["adapter", "key"]  # who shares cached prefixes: all who ask it, or one key's

KEYS_VARIABLE = "HATSTAND_API_KEYS"


@dataclass(frozen=True)
class EngineOptions:
    """How much the engine may hold and run at once. None leaves it to the engine's defaults."""

    device: Device = "auto"
    max_slots: int | None = None  # adapters in the engine at once
    max_rank: int | None = None  # the largest LoRA rank a slot takes
    max_batch: int | None = None  # sequences that decode in one step
    max_queue: int | None = None  # sequences that wait before 429 is answered
    adapter_share: float = 0.125  # by which one adapter may lengthen others' steps
    max_context: int | None = None  # tokens, no more than the base's own
    kv_memory: int | None = None  # bytes
    host_memory: int | None = None  # bytes of adapters kept in host memory
    shadow_bf16: bool | None = None  # the base dequantized: about 4 times the memory
    gemm: Gemm = "exact"  # how a GPU multiplies with the base's 4 bits
    fp8_kv: bool = False  # keys and values in 8 bits, on a GPU

    def __post_init__(self) -> None:
        if not 0 < self.adapter_share <= 1:
            raise StartupError(
                f"--adapter-share must be over 0 and at most 1, not {self.adapter_share:g}."
            )
        for name, value in vars(self).items():
            if (
                name not in ("adapter_share", "device", "shadow_bf16", "gemm", "fp8_kv")
                and value is not None
                and value < 1
            ):
                option = name.replace("_", "-")
                raise StartupError(f"--{option} must be at least 1, not {value}.")


@dataclass(frozen=True)
class ApiSettings:
    """Limits and habits of the HTTP layer. Times are seconds, sizes bytes."""

    keys: tuple[ApiKey, ...] = ()
    require_receipt: bool = False  # a moved alias takes effect once its receipt was kept here
    trusted_keys: tuple[Path, ...] = ()  # serve only what one of these has signed
    pins: tuple[str, ...] = ()  # adapter references loaded before the server is ready
    max_body: int = 8 << 20
    max_prompts: int = 64  # prompts in one /v1/completions request
    default_max_tokens: int = 1024  # ceiling when neither request nor hat says how many
    request_timeout: float = 600.0
    ping_interval: float = 15.0  # keep-alive comments on a silent stream
    drain_delay: float = 0.0  # how long requests are still taken after SIGTERM, /readyz saying no
    drain_timeout: float = 30.0  # how long running streams may finish then
    canary_interval: float = 1.0  # between looks at canaries, and reports on them
    retry_after: float = 1.0  # told to clients that are turned away
    prefix_scope: PrefixScope = "adapter"


@dataclass(frozen=True)
class Settings:
    """Everything `hatstand serve` was asked."""

    base: str
    registry: str | Path = field(default_factory=default_registry)
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1  # engines behind one socket, each in a process and on a GPU of its own
    insecure: bool = False  # serve other machines without any key
    fine_tuning: bool = False  # take jobs for `hatstand worker`
    keep_responses: bool = True  # of /v1/responses, for conversations to go on from
    log_format: LogFormat = "text"
    supervised: bool = os.name == "posix"  # in a process that is started again if it dies
    api: ApiSettings = ApiSettings()
    engine: EngineOptions = EngineOptions()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise StartupError(f"--port {self.port} is not a port: use 0 to 65535.")
        if not (is_loopback(self.host) or self.api.keys or self.insecure):
            raise StartupError(
                f"Serving on {self.host} without API keys would let anyone who reaches this "
                f"machine in. Give keys (--api-keys-file FILE or {KEYS_VARIABLE}), or say "
                "--insecure if something in front of the server checks who calls."
            )

    @property
    def url(self) -> str:
        """Where a client on this machine connects."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        bare_ipv6 = ":" in host and not host.startswith("[")
        return f"http://{f'[{host}]' if bare_ipv6 else host}:{self.port}"


def find_keys(file: Path | None, environ: Mapping[str, str] | None = None) -> tuple[ApiKey, ...]:
    """The API keys of `file` and of HATSTAND_API_KEYS together."""
    from_environment = (os.environ if environ is None else environ).get(KEYS_VARIABLE, "")
    keys = parse_keys(from_environment.split(","), where=KEYS_VARIABLE)
    return keys + (read_keys(file) if file is not None else ())
