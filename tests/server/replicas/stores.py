"""PostgreSQL and S3 on a node of their own, as a registry of several machines has them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.registry.backends import need, postgres_programs
from tests.server.replicas.nodes import Node
from tests.server.replicas.processes import eventually, process

POSTGRES, S3 = 5432, 9000
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # it refuses to be root


@dataclass(frozen=True)
class Stores:
    """Where a registry keeps its catalog and its blobs, as its environment says it."""

    database: str
    blobs: str
    environ: dict[str, str]


@contextmanager
def stores(node: Node, folder: Path) -> Iterator[Stores]:
    with _postgres(node, folder) as database, _s3(node, folder) as endpoint:
        environ = {
            "HATSTAND_DATABASE": database,
            "HATSTAND_BLOBS": "s3://adapters/all",
            "AWS_ENDPOINT": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
        }
        yield Stores(database, environ["HATSTAND_BLOBS"], environ)


@contextmanager
def _postgres(node: Node, folder: Path) -> Iterator[str]:
    """An empty one; yields its URL."""
    programs = postgres_programs()
    with tempfile.TemporaryDirectory() as made:
        data = Path(made, "data")
        Path(made).chmod(0o777)
        command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        subprocess.run([*NOBODY, *command], check=True, capture_output=True)
        trusting = f"host all all {node.address.rpartition('.')[0]}.0/24 trust\n"
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(trusting)
        command = [str(programs / "postgres"), "-D", str(data), "-k", made]
        command += ["-p", str(POSTGRES), "-h", node.address]
        url = f"postgresql://postgres@{node.address}:{POSTGRES}/postgres"
        ask = [str(programs / "pg_isready"), "-q", "-h", node.address, "-p", str(POSTGRES)]
        with process(node.command([*NOBODY, *command]), url, folder / "postgres.log"):
            eventually("PostgreSQL answers", lambda: subprocess.run(ask).returncode == 0)
            yield url


@contextmanager
def _s3(node: Node, folder: Path) -> Iterator[str]:
    """An S3 with an empty bucket; yields its endpoint."""
    need("moto.server")
    command = [sys.executable, "-m", "moto.server", "-H", node.address, "-p", str(S3)]
    with process(node.command(command), node.url(S3), folder / "s3.log") as s3:
        made = f"{s3.url}/adapters"
        eventually("the bucket is there", lambda: httpx.put(made).status_code == 200)
        yield s3.url
