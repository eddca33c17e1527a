"""Risky code, known vulnerabilities, and what a release is made of.

`python .ci/audit [FOLDER]`: bandit over the sources, zizmor over the release's workflow, pip-audit
over constraints.txt, and where a folder is given, sbom.json (CycloneDX) and licences.txt of
everything installed in .venv there. The tools are installed into .cache/audit on the first call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache" / "audit"
SOURCES = ("server", "registry", "training", "clients")
# Bases are folders that were pulled at a pinned commit (B615); addresses are compared, not bound
# (B104); a folder of the system's is looked into, not written (B108).
SKIPPED_CHECKS = "B615,B104,B108"
# Questions and queries to train on, which nobody runs.
SAMPLES = "clients/demo/sql.py,training/evaluating/sql_rows.py"


def main() -> int:
    """0 if there is nothing to mend."""
    install_tools()
    failed = check_sources() + check_workflows() + check_pins()
    if len(sys.argv) > 1:
        describe_release(Path(sys.argv[1]))
    return int(failed > 0)


def install_tools() -> None:
    if not (TOOLS / "bin" / "zizmor").exists():
        venv.create(TOOLS, with_pip=True)
        tool("python", "-m", "pip", "install", "-q", "-r", str(ROOT / ".ci/audit/requirements.txt"))


def tool(
    *command: str, check: bool = True, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    program = TOOLS / "bin" / command[0]
    return subprocess.run(
        [program, *command[1:]], cwd=ROOT, check=check, capture_output=capture, text=True
    )


def check_sources() -> int:
    options = ("-q", "-ll", "--skip", SKIPPED_CHECKS, "--exclude", SAMPLES)
    return tool("bandit", *options, "-r", *SOURCES, check=False).returncode


def check_workflows() -> int:
    return tool("zizmor", "--offline", "--quiet", ".github", check=False).returncode


def check_pins() -> int:
    """How many pinned packages have known vulnerabilities; says so where nobody could be asked."""
    options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
    done = tool("pip-audit", "-r", "constraints.txt", *options, check=False, capture=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        packages = []
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        failure = "" if packages else done.stderr.strip().rpartition("\n")[2]
        print(
            "pip-audit: skipped, since the package index here has no vulnerability service: "
            + (failure or f"it knows none of {len(packages)} pins")
        )
        return 0
    found = [package for package in audited if package["vulns"]]
    for package in found:
        ids = ", ".join(each["id"] for each in package["vulns"])
        print(f"{package['name']} {package['version']}: {ids}")
    print(f"pip-audit: {len(audited)} of {len(packages)} pins known, {len(found)} vulnerable")
    return len(found)


def describe_release(folder: Path) -> None:
    """sbom.json, and a line for each package's licence."""
    folder.mkdir(parents=True, exist_ok=True)
    sbom = folder / "sbom.json"
    tool("cyclonedx-py", "environment", str(ROOT / ".venv"), "--output-file", str(sbom))
    components = json.loads(sbom.read_text())["components"]
    lines = [f"{each['name']} {each['version']}: {licence_of(each)}" for each in components]
    (folder / "licences.txt").write_text("\n".join(sorted(lines, key=str.lower)) + "\n")


def licence_of(component: dict[str, object]) -> str:
    """Its licences in a line, by their SPDX names where it has them."""
    entries = component.get("licenses")
    names = []
    for entry in entries if isinstance(entries, list) else ():
        licence = entry.get("license", {})
        names.append(entry.get("expression") or licence.get("id") or licence.get("name", ""))
    return ", ".join(dict.fromkeys(filter(None, names))) or "not stated"


if __name__ == "__main__":
    sys.exit(main())
