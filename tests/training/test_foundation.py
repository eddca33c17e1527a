"""What stands before torch is imported: nothing that a run did not ask for speaks."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from training.foundation import prepare

PROGRAM = """
from training.foundation import prepare

prepare()
from deepspeed.accelerator import get_accelerator

print(get_accelerator().device_name())
"""


def test_deepspeed_says_nothing_where_nobody_asked_for_it() -> None:
    """accelerate imports it into every run, and its warnings go to standard output."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.endswith("cpu\n")
    assert "Setting accelerator" not in said.stdout


def test_its_other_warnings_are_heard() -> None:
    prepare()
    logger, record = logging.getLogger("DeepSpeed"), logging.makeLogRecord({"msg": "overflow"})
    assert logger.filter(record)
