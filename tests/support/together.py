"""Compile kernels side by side for a device that is not there: `python -m tests.support.together`.

Launches them as a step does, and prints how often each is compiled when nothing may be launched.
"""

from __future__ import annotations

import torch
import triton

from server.kernels.triton import norm, sampling
from server.kernels.triton.together import compiled_together
from tests.support.kernel_cases import normal
from tests.support.triton_compile import AbsentDevice

DEVICE = 0


def main() -> None:
    norm.starts_early = lambda _tensor: True  # type: ignore[assignment, attr-defined]
    triton.runtime.driver.set_active(AbsentDevice(90))
    weight = normal(256)
    with compiled_together():
        for rows in (2, 2, 7):
            norm.rms_norm(normal(rows, 256), weight, 1e-5)
            norm.rms_norm(normal(rows, 256, dtype=torch.bfloat16), weight.bfloat16(), 1e-5)
            sampling.argmax(normal(rows, 256))
    for kernel in (norm._rms_norm_kernel, sampling._argmax_kernel):
        compiled = kernel.device_caches[DEVICE][0].values()
        assert all(len(one.asm["cubin"]) > 0 for one in compiled)
        print(kernel.fn.__name__, len(compiled))


if __name__ == "__main__":
    main()
