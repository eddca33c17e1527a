from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from registry import BaseRecord, Registry, Version
from registry.errors import AdapterNotFound, DestinationExists, InvalidReference
from registry.exchange import export
from registry.manifest import ARTIFACT_TYPE, MANIFEST_TYPE
from tests.registry.making import make_adapter


@pytest.fixture
def version(registry: Registry, adapter: Path) -> Version:
    return registry.push(adapter, "sql")


def read_layout(folder: Path) -> dict[str, dict[str, Any]]:
    """Tag → manifest, every digest and size on the way checked."""
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_text())
    assert index["schemaVersion"] == 2
    manifests = {}
    for entry in index["manifests"]:
        assert entry["mediaType"] == MANIFEST_TYPE
        manifest = json.loads(read_blob(folder, entry))
        for blob in (manifest["config"], *manifest["layers"]):
            read_blob(folder, blob)
        manifests[entry["annotations"]["org.opencontainers.image.ref.name"]] = manifest
    return manifests


def read_blob(folder: Path, descriptor: dict[str, Any]) -> bytes:
    algorithm, _, name = descriptor["digest"].partition(":")
    content = (folder / "blobs" / algorithm / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == name
    assert len(content) == descriptor["size"]
    return content


def test_an_oci_layout_is_whole(registry: Registry, version: Version, tmp_path: Path) -> None:
    done = export(registry, "sql", f"oci:{tmp_path / 'layout'}")
    assert done.target == f"oci:{tmp_path / 'layout'}:sql-1"
    (manifest,) = read_layout(tmp_path / "layout").values()
    assert manifest["artifactType"] == ARTIFACT_TYPE
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == version.digest


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("target", ["nowhere:x", "hf:org/name", "s3://bucket/x", "OCI:layout"])
def test_a_mistyped_scheme_is_no_folder(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidReference, match=r"hf://ORG/NAME.*oci:DIR.*or a folder"):
        export(registry, "sql", target)
    assert list(folder.iterdir()) == []
    export(registry, "sql", f"./{target}")
    assert (folder / target / "adapter_config.json").is_file()


def test_a_tag_that_no_reader_takes_is_refused(
    registry: Registry, version: Version, tmp_path: Path
) -> None:
    with pytest.raises(InvalidReference, match="'a tag' is no tag"):
        export(registry, version.ref, f"oci:{tmp_path / 'layout'}:a tag")
    assert not (tmp_path / "layout").exists()


def test_a_layout_holds_several_versions_and_tags_move(
    registry: Registry, version: Version, base: BaseRecord, tmp_path: Path
) -> None:
    folder = tmp_path / "layout"
    second = registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    export(registry, "sql@1", f"oci:{folder}:prod")
    export(registry, "sql@1", f"oci:{folder}")
    export(registry, "sql@2", f"oci:{folder}:prod")
    assert set(read_layout(folder)) == {"sql-1", "prod"}
    index = json.loads((folder / "index.json").read_text())
    tags = {
        each["annotations"]["org.opencontainers.image.ref.name"]: each["digest"]
        for each in index["manifests"]
    }
    assert tags == {"sql-1": version.digest, "prod": second.digest}
    assert not list(folder.rglob("*.partial"))


def test_nothing_else_is_written_over(registry: Registry, version: Version, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "x.tex").touch()
    for target in (tmp_path / "thesis", tmp_path / "thesis" / "x.tex"):
        for scheme in ("oci:", ""):
            with pytest.raises(DestinationExists):
                export(registry, version.ref, f"{scheme}{target}")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "oci-layout").write_text("{}")
    (tmp_path / "odd" / "index.json").write_text('{"manifests": {}}')
    with pytest.raises(DestinationExists, match="no manifests"):
        export(registry, version.ref, f"oci:{tmp_path / 'odd'}")
    with pytest.raises(AdapterNotFound):
        export(registry, "sgl", "oci:x")


def test_a_folder_can_be_pushed_again(registry: Registry, version: Version, tmp_path: Path) -> None:
    export(registry, "sql", str(tmp_path / "out"))
    assert registry.push(tmp_path / "out", "copy").digest == version.digest


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (apt-get)")
def test_a_strangers_tool_copies_the_layout(
    registry: Registry, version: Version, tmp_path: Path
) -> None:
    export(registry, "sql", f"oci:{tmp_path / 'layout'}:prod")
    places = [f"oci:{tmp_path / name}:prod" for name in ("layout", "copy")]
    subprocess.run(["skopeo", "copy", "--insecure-policy", *places], check=True)
    (manifest,) = read_layout(tmp_path / "copy").values()
    assert manifest == version.manifest.to_dict()
