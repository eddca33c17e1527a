"""The pieces of docs/clients.md and docs/clients/, run as they stand against a whole server.

A page's pieces in one language and for one package are one program, from top to bottom, as a reader
would type it. The tiny base says nothing sensible: looked for is what the server holds it to.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from registry import Registry
from registry.bases import read_base
from registry.hats import Hat, Sampling
from registry.keys import Keys
from server.api.keys import parse_keys
from server.serve import serving
from server.settings import ApiSettings, EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / ".cache" / "tools" / "examples" / "bin" / "python"
MAKERS = ("curl", "langchain", "litellm", "llamaindex")
FENCE = re.compile(r"^## (.*?)$|^```(sh|python)(?: (run) ?(\S*))?\n(.*?)^```$", re.M | re.S)
SUM = r"pirate@1\*0\.3\+sql@2\*0\.7|composition-[0-9a-f]{12}"
# What each section of a maker's page has to print.
PRINTED = {
    "First chat": r"\S",
    "Streaming": r"\S",
    "Tools": r"count_orders[^\n]*(Bern|Oslo)",
    "Structured output": r"status\b.{1,80}?\b(open|late)\b.*urgent\b.*?([Tt]rue|[Ff]alse)",
    "Embeddings": r"2 vectors|\"index\": ?1",
    "Key and errors": r"Did you mean 'sql'.*(401|invalid_api_key)",
    "Several adapters at once": SUM,
    "Cold adapters": r"pirate@1|tiny|[0-9a-f]{12}",
}
CALLER = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}"
    "</tool_call>{% endfor %}{% endfor %}<assistant>"
)


@dataclass(frozen=True)
class Piece:
    """One fenced block, under its heading."""

    page: str
    heading: str
    language: str
    is_run: bool
    needs: str  # the package that it is about
    code: str


def read_pieces(page: str) -> Iterator[Piece]:
    heading = ""
    for found in FENCE.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if found[1] is not None:
            heading = found[1]
        else:
            yield Piece(page, heading, found[2], found[3] == "run", found[4] or "", found[5])


PAGES = ["clients.md", *(f"clients/{maker}.md" for maker in MAKERS)]
PIECES = [piece for page in PAGES for piece in read_pieces(page)]
PROGRAMS = [
    list(pieces)
    for _, pieces in groupby(
        (piece for piece in PIECES if piece.is_run), lambda p: (p.page, p.language, p.needs)
    )
]


@dataclass(frozen=True)
class Server:
    url: str
    registry_key: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It wants keys, and has two versions of `sql`, `prod` on the second, and `pirate`."""
    root = tmp_path_factory.mktemp("examples")
    base = write_tiny_base(root / "tiny", max_position_embeddings=2048, vocab_size=258)
    registry = Registry.open(root / "registry")
    hat = Hat(chat_template=CALLER, sampling=Sampling(temperature=0, max_tokens=320))
    for number, name in enumerate(("sql", "sql", "pirate")):
        folder = TinyAdapter(name, seed=number).write(base, root / str(number))
        hat.write(folder)
        version = registry.push(folder, name, base=read_base(base))
        registry.set_alias(name, "prod", version.ref)
    settings = Settings(
        base=str(base),
        registry=registry.folder,
        port=0,
        engine=EngineOptions(device="cpu", kv_memory=8 << 20, max_rank=8, max_slots=3),
        api=ApiSettings(keys=parse_keys(["app-key-1234567"], where="test")),
    )
    _, registry_key = Keys(registry.catalog).create("ann", ["read", "alias"])
    with serving(settings) as url:
        yield Server(url, registry_key)


@pytest.mark.parametrize("maker", MAKERS)
def test_every_maker_has_all_sections(maker: str) -> None:
    pieces = list(read_pieces(f"clients/{maker}.md"))
    assert all(piece.is_run for piece in pieces)
    assert list(dict.fromkeys(piece.heading for piece in pieces)) == list(PRINTED)


def test_what_does_not_run_is_known() -> None:
    assert [(p.page, p.heading) for p in PIECES if not p.is_run] == [
        ("clients.md", "lm-evaluation-harness"),  # tests/server/lm_eval/ runs it
    ]


@pytest.mark.parametrize("pieces", PROGRAMS, ids=[f"{p[0].page}-{p[0].needs}" for p in PROGRAMS])
def test_pages_run(server: Server, pieces: list[Piece]) -> None:
    code = program(pieces).replace("http://127.0.0.1:8000", server.url)
    command = [*interpreter(pieces[0]), code]
    environment = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it otherwise asks the internet for prices first
        "PYTHONUTF8": "1",
        "HATSTAND_REGISTRY_KEY": server.registry_key,
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=120
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output + done.stderr.decode(errors="replace")
    for number, piece in enumerate(pieces):
        said = output.partition(f"<<{number}>>\n")[2].partition(f"<<{number + 1}>>")[0]
        assert re.search(printed(pieces, number), said, re.S), f"{piece.heading}: {said}"


def printed(pieces: list[Piece], number: int) -> str:
    """What the piece has to print: the section's words are due with its first piece."""
    heading = pieces[number].heading
    is_first = number == 0 or pieces[number - 1].heading != heading
    return PRINTED.get(heading, r"\S") if is_first else r"\S"


def program(pieces: list[Piece]) -> str:
    """The pieces with marks before them, so that it is seen which printed what."""
    mark = (
        'print("\\n<<{}>>")\n' if pieces[0].language == "python" else "printf '\\n<<%s>>\\n' {}\n"
    )
    return "".join(mark.format(number) + piece.code for number, piece in enumerate(pieces))


def interpreter(piece: Piece) -> list[str]:
    """What runs it: bash, this Python, or that of the environment that `.ci/tools` makes."""
    if piece.language == "sh":
        return ["bash", "-euc"]
    if importlib.util.find_spec(piece.needs.partition(".")[0]) is not None:
        return [sys.executable, "-c"]
    if not EXAMPLES.is_file():
        reason = f"{piece.needs} is not installed: .ci/tools brings it"
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return [str(EXAMPLES), "-c"]
