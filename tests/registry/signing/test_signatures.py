"""Signatures: who made them, for which files, and what a stranger's tool says of them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry import BaseRecord, Registry
from registry.errors import InvalidRequest, SignatureInvalid, SignatureMissing, Unavailable
from registry.remote.registry import RemoteRegistry
from registry.signing import Signer, Trust, check_signature, sign
from registry.signing.signatures import BUNDLE_TYPE
from registry.signing.trust import Identity
from registry.statements import state, statements
from tests.registry.making import make_adapter
from tests.registry.signing.pairs import Pair
from tests.registry.test_cli import run, run_json


@pytest.fixture
def ann(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "ann")


@pytest.fixture
def mallory(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "mallory")


def test_a_signed_version_is_trusted_by_the_right_key_alone(
    registry: Registry, adapter: Path, ann: Pair, mallory: Pair
) -> None:
    version = registry.push(adapter, "sql")
    with pytest.raises(SignatureMissing, match="registry sign sql@1"):
        check_signature(registry, version, Trust(keys=(ann.public,)))
    digest = sign(registry, version, Signer(ann.private))
    found = check_signature(registry, version, Trust(keys=(mallory.public, ann.public)))
    assert (found.by, found.digest) == ("key ann.pub", digest)
    with pytest.raises(SignatureInvalid, match=r"mallory.*Key mismatch"):
        check_signature(registry, version, Trust(keys=(mallory.public,)))
    sign(registry, version, Signer(mallory.private))
    check_signature(registry, version, Trust(keys=(mallory.public,)))


def test_a_signature_is_good_for_its_files_only(
    registry: Registry, adapter: Path, base: BaseRecord, ann: Pair, tmp_path: Path
) -> None:
    trust = Trust(keys=(ann.public,))
    first = registry.push(adapter, "sql")
    second = registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    sign(registry, first, Signer(ann.private))
    (statement,) = statements(registry, first, BUNDLE_TYPE)
    state(registry, second, BUNDLE_TYPE, statement.content)
    with pytest.raises(SignatureInvalid, match="for other files"):
        check_signature(registry, second, trust)
    # Somebody who can write to the catalog changes what the version consists of.
    layers = (*second.manifest.layers[:1], *first.manifest.layers[1:])
    tampered = replace(first, manifest=replace(first.manifest, layers=layers))
    with pytest.raises(SignatureInvalid, match="for other files"):
        check_signature(registry, tampered, trust)


@pytest.mark.parametrize("part", ["payload", "sig"])
def test_a_changed_bundle_counts_for_nothing(
    registry: Registry, adapter: Path, ann: Pair, tmp_path: Path, part: str
) -> None:
    version = registry.push(adapter, "sql")
    sign(registry, version, Signer(ann.private))
    (statement,) = statements(registry, version, BUNDLE_TYPE)
    bundle = json.loads(json.dumps(statement.content))
    envelope = bundle["dsseEnvelope"]
    place = envelope if part == "payload" else envelope["signatures"][0]
    content = bytearray(base64.b64decode(place[part]))
    content[len(content) // 2] ^= 1
    place[part] = base64.b64encode(content).decode()
    elsewhere = Registry.open(tmp_path / "elsewhere")
    copy = elsewhere.push(adapter, "sql")
    for content in (bundle, {"not": "a bundle"}, {**bundle, "dsseEnvelope": None}):
        state(elsewhere, copy, BUNDLE_TYPE, content)
    with pytest.raises(SignatureInvalid, match="none of the 3"):
        check_signature(elsewhere, copy, Trust(keys=(ann.public,)))
    state(elsewhere, copy, BUNDLE_TYPE, statement.content)
    check_signature(elsewhere, copy, Trust(keys=(ann.public,)))


def test_certificates_count_when_the_authority_is_trusted(
    registry: Registry, adapter: Path, ann: Pair, mallory: Pair, tmp_path: Path
) -> None:
    authority = _certificate(tmp_path / "ca.pem", mallory, mallory, "authority", is_authority=True)
    leaf = _certificate(tmp_path / "ann.pem", ann, mallory, "ann", is_authority=False)
    version = registry.push(adapter, "sql")
    sign(registry, version, Signer(ann.private, certificate=leaf, chain=(authority,)))
    found = check_signature(registry, version, Trust(authorities=(authority,)))
    assert found.by == "a certificate of ca.pem"
    stranger = _certificate(tmp_path / "s.pem", ann, ann, "stranger", is_authority=True)
    with pytest.raises(SignatureInvalid):
        check_signature(registry, version, Trust(authorities=(stranger,)))


def test_a_strangers_tool_verifies_a_pulled_folder(
    registry: Registry, adapter: Path, ann: Pair, mallory: Pair, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    sign(registry, version, Signer(ann.private))
    registry.pull("sql", tmp_path / "out")
    (statement,) = statements(registry, version, BUNDLE_TYPE)
    bundle = tmp_path / "sql.sig"
    bundle.write_text(json.dumps(statement.content))

    def verified_with(key: Path) -> bool:
        command = [sys.executable, "-m", "model_signing", "verify", "key", str(tmp_path / "out")]
        command += ["--signature", str(bundle), "--public_key", str(key)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert verified_with(ann.public)
    assert not verified_with(mallory.public)


def test_signing_and_verifying_through_a_server(
    remote: RemoteRegistry, adapter: Path, ann: Pair, mallory: Pair
) -> None:
    version = remote.push(adapter, "sql")
    sign(remote, version, Signer(ann.private))
    assert check_signature(remote, version, Trust(keys=(ann.public,))).by == "key ann.pub"
    with pytest.raises(SignatureInvalid):
        check_signature(remote, version, Trust(keys=(mallory.public,)))


def test_keys_that_cannot_be_used_are_named(
    registry: Registry, adapter: Path, ann: Pair, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    locked = Pair(tmp_path, "locked", password="a b c")
    for signer in (
        Signer(tmp_path / "none"),
        Signer(ann.public),
        Signer(locked.private),
        Signer(certificate=ann.public),
    ):
        with pytest.raises(InvalidRequest, match="signing key"):
            sign(registry, version, signer)
    sign(registry, version, Signer(locked.private, password="a b c"))
    with pytest.raises(InvalidRequest, match="trusted key"):
        check_signature(registry, version, Trust(keys=(ann.private,)))


def test_sigstore_without_a_network_is_said_to_be_unavailable(
    registry: Registry, adapter: Path, ann: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    version = registry.push(adapter, "sql")
    with pytest.raises(Unavailable, match="Sigstore"):
        sign(registry, version, Signer(identity_token="x.y.z"))
    sign(registry, version, Signer(ann.private))
    trust = Trust(identities=(Identity("ann@example.com", "https://accounts.example.com"),))
    with pytest.raises(Unavailable, match="Sigstore's keys"):
        check_signature(registry, version, trust)


def test_without_the_extra_it_is_named(
    adapter: Path, ann: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("push", adapter, "sql")
    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.delitem(sys.modules, "registry.signing.covered", raising=False)
    assert "hatstand[signing]" in run("sign", "sql", "--key", ann.private, code=1)


def test_the_commands(adapter: Path, ann: Pair, mallory: Pair) -> None:
    run("push", adapter, "sql")
    assert "is not signed" in run("verify", "sql", "--signature", "--key", ann.public, code=1)
    assert "signed by sha256:" in run("sign", "sql", "--key", ann.private)
    assert "signed by key ann.pub" in run("verify", "sql", "--signature", "--key", ann.public)
    (checked,) = run_json("verify", "sql", "--signature", "--key", ann.public)
    assert checked["signature"]["by"] == "key ann.pub"
    assert "not trusted" in run("verify", "sql", "--signature", "--key", mallory.public, code=1)
    assert "say whom to trust" in run("verify", "sql", "--signature", code=2)
    assert "belong together" in run("verify", "sql", "--signature", "--identity", "ann", code=2)


def _certificate(path: Path, of: Pair, by: Pair, name: str, *, is_authority: bool) -> Path:
    """A certificate of a key, signed by an authority whose name is "authority" or its own."""
    issuer = name if of is by else "authority"
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
    now = datetime.now(UTC)
    public = of.secret.public_key()
    usage = x509.KeyUsage(True, False, False, False, False, is_authority, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named[0])
        .issuer_name(named[1])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    )
    certificate = builder.sign(by.secret, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
