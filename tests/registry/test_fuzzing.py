"""Nothing that a stranger sends may do anything but be refused: many wrong inputs, briefly.

`tests/fuzz/long.sh` is the long form.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import RegistryError
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, read_adapter_config, read_safetensors, survive

ROOT = Path(__file__).parents[2]
KNOWN = seeds()
SEEDS = [(name, content) for name, contents in KNOWN.items() for content in contents]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["q_proj", "F32", "LORA", "all-linear", "pissa", ".*", "(", "a|b"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(("name", "content"), SEEDS)
def test_the_seeds_are_sound(name: str, content: bytes) -> None:
    if not content.startswith(b"sha256:"):
        TARGETS[name](content)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_bytes_in_any_place_are_survived(name: str, data: Any) -> None:
    content = data.draw(st.sampled_from(KNOWN[name]))
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, min(len(content), begin + 8)))
    middle = data.draw(st.binary(max_size=8))
    survive(TARGETS[name], content[:begin] + middle + content[end:])


CONFIG_KEYS = st.sampled_from(
    [
        "peft_type",
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layers_pattern",
        "use_rslora",
        "use_dora",
        "bias",
        "init_lora_weights",
        "task_type",
        "use_something_new",
    ]
)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # `re` about patterns such as [[a]
@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(CONFIG_KEYS, VALUES, max_size=4))
def test_any_values_in_a_configuration_are_survived(changes: dict[str, Any]) -> None:
    config = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], **changes}
    survive(read_adapter_config, json.dumps(config).encode())


@settings(max_examples=300, deadline=None)
@given(
    entries=st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__", "\n"]),
        VALUES
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "F4", "I64"]) | SCALARS,
                "shape": st.lists(st.integers(-1, 2**50), max_size=3) | SCALARS,
                "data_offsets": st.lists(st.integers(-1, 40), max_size=3) | SCALARS,
            }
        ),
        max_size=3,
    ),
    length=st.integers(-4, 4) | st.integers(0, 2**60),
    data=st.binary(max_size=40),
)
def test_any_header_is_survived(entries: dict[str, Any], length: int, data: bytes) -> None:
    header = json.dumps(entries).encode()
    claimed = max(0, length if length > 4 else len(header) + length)
    survive(read_safetensors, struct.pack("<Q", claimed) + header + data)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_coverage_guided_fuzzer_finds_nothing_soon(target: str, tmp_path: Path) -> None:
    if find_spec("atheris") is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS") == "1" and sys.platform == "linux":
            pytest.fail("atheris is not installed: pip install --group dev")
        pytest.skip("atheris is not installed (Linux on x86-64 only)")
    command = [sys.executable, "-m", "tests.fuzz", target, "-runs=3000", "-seed=1"]
    command.append(f"-artifact_prefix={tmp_path}/")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("target", ["manifest", "lock", "adapter_config", "hat"])
def test_half_a_surrogate_pair_is_no_text(target: str) -> None:
    """Found by the fuzzer: such a manifest was read, and had no digest."""
    content = seeds()[target][0].split(b"\0")[0]
    broken = content.replace(b'"', b'"\\ud800', 1)
    assert broken != content
    with pytest.raises(RegistryError, match="surrogates not allowed"):
        TARGETS[target](broken)
