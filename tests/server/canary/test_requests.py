"""Canaries as requests meet them, in front of a fake engine."""

from __future__ import annotations

import anyio
import httpx
import pytest

from registry.canary.record import Split
from registry.errors import ReceiptMismatch
from registry.versions import Version
from server.api.app import create_app
from server.errors import InvalidRequest, NonFiniteLogits, QueueFull, ServingError
from server.proof import ReceiptGate
from server.settings import ApiSettings
from tests.server.api.fakes import FakeBase, FakeEngine, FakeRegistry, open_client
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def registry() -> FakeRegistry:
    """`sql@prod` is 1, and half of its requests are for 2."""
    registry = FakeRegistry()
    for _ in range(2):
        registry.push("sql")
    registry.set_alias("sql", "prod", 1)
    target = registry.lines["sql"][1]
    registry.running["sql", "prod"] = Split(7, "prod", 0, 100, target)  # type: ignore[arg-type]
    return registry


class Site:
    """An app over the registry, whose gate refuses the versions on a list."""

    def __init__(
        self, registry: FakeRegistry, refused: tuple[str, ...] = (), *, timeout: float = 600.0
    ) -> None:
        self.engine = FakeEngine()
        self.registry = registry

        def prove(version: Version) -> None:
            if version.ref in refused:
                raise ReceiptMismatch("probe 1, token 3")

        settings = ApiSettings(canary_interval=0.01, request_timeout=timeout)
        gate = ReceiptGate(prove)
        self.app = create_app(self.engine, registry, FakeBase(), settings, gate=gate)


async def ask(client: httpx.AsyncClient, stream: bool = False) -> httpx.Response:
    body = {"model": "sql", "prompt": "x", "max_tokens": 8, "stream": stream}
    return await client.post("/v1/completions", json=body)


async def until_ready(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(PATIENCE):
        while (await ask(client)).headers["x-hatstand-adapter"] != "sql@2":
            await anyio.sleep(0.01)


async def test_a_version_that_breaks_its_receipt_gets_no_request(registry: FakeRegistry) -> None:
    site = Site(registry, refused=("sql@2",))
    async with open_client(site.app) as client:
        with anyio.fail_after(PATIENCE):
            while not any(report.refusal for report in registry.canaries.reports):
                assert (await ask(client)).headers["x-hatstand-adapter"] == "sql@1"
        assert (await ask(client)).headers["x-hatstand-adapter"] == "sql@1"
    assert "probe 1, token 3" in registry.canaries.reports[-1].refusal


async def test_a_proven_one_is_loaded_before_its_first_request(registry: FakeRegistry) -> None:
    site = Site(registry)
    async with open_client(site.app) as client:
        await until_ready(client)
        assert registry.lines["sql"][1].digest in site.engine.loaded


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (NonFiniteLogits("NaN"), True),
        (RuntimeError("a bug"), True),
        (QueueFull("full"), False),
        (InvalidRequest("too long"), False),
    ],
)
@pytest.mark.filterwarnings("ignore")
async def test_what_counts_as_a_failure(
    registry: FakeRegistry, error: Exception, counts: bool
) -> None:
    site = Site(registry)
    async with open_client(site.app) as client:
        await until_ready(client)
        if isinstance(error, ServingError):
            site.engine.admission_error = error
        else:
            site.engine.error_after = (1, error)
        assert (await ask(client)).status_code >= 400
        site.engine.admission_error = site.engine.error_after = None
        assert (await ask(client)).status_code == 200
        with anyio.fail_after(PATIENCE):
            while registry.canaries.reports[-1].target.requests < 2 + counts:
                await anyio.sleep(0.01)
    assert registry.canaries.reports[-1].target.errors == counts


async def test_an_answer_that_takes_too_long_has_failed(registry: FakeRegistry) -> None:
    site = Site(registry, timeout=2.0)
    async with open_client(site.app) as client:
        await until_ready(client)
        site.engine.delay = 60
        assert (await ask(client)).status_code == 504
        with anyio.fail_after(PATIENCE):
            while not registry.canaries.reports[-1].target.errors:
                await anyio.sleep(0.01)


async def test_streams_count_too(registry: FakeRegistry) -> None:
    site = Site(registry)
    async with open_client(site.app) as client:
        await until_ready(client)
        assert (await ask(client, stream=True)).text.endswith("data: [DONE]\n\n")
        with anyio.fail_after(PATIENCE):
            while registry.canaries.reports[-1].target.requests < 2:
                await anyio.sleep(0.01)
    target = registry.canaries.reports[-1].target
    assert (target.ttft.total, target.inter_token.total, target.errors) == (2, 2, 0)
