"""One compiled kernel on one device, and how it is launched."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from cuda.bindings import driver
from cuda.core import Device, ObjectCode

Argument: TypeAlias = Any
"""A tensor's address, an unsigned 32-bit integer, or a tensor map by value."""


@dataclass(frozen=True)
class Grid:
    """How many blocks of how many threads; `cluster` consecutive blocks share their memory."""

    blocks: tuple[int, int]
    threads: int
    cluster: int = 1


class CudaKernel:
    """A kernel of one cubin. Launches go to torch's current stream and return at once.

    shared_bytes: dynamic shared memory of a block. overlap: let a launch begin while the kernel
    before it ends (programmatic dependent launch); the kernel waits for it where it must.
    """

    def __init__(
        self, cubin: bytes, name: str, device: torch.device, *, shared_bytes: int, overlap: bool
    ) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        Device(index).set_current()
        self._code = ObjectCode.from_cubin(cubin, name=name)  # unloads the kernel when it goes
        self._kernel = self._code.get_kernel(name)
        self._handle = int(self._kernel.handle)
        self._shared_bytes = shared_bytes
        self._overlap = overlap
        if shared_bytes:
            self._allow_shared(shared_bytes, index)

    def launch(self, grid: Grid, arguments: Sequence[Argument]) -> None:
        """Raises RuntimeError if the driver refuses; what fails on the device shows up later."""
        config = self._config(grid, torch.cuda.current_stream().cuda_stream)
        values, types = zip(*(_parameter(argument) for argument in arguments), strict=True)
        function = driver.CUfunction(self._handle)
        _check(driver.cuLaunchKernelEx(config, function, (values, types), 0))

    def max_clusters(self, grid: Grid) -> int:
        """How many clusters of `grid` the device holds at once."""
        config = self._config(grid, 0)
        return int(_check(driver.cuOccupancyMaxActiveClusters(self._function(), config)))

    def _allow_shared(self, size: int, device: int) -> None:
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        kernel = driver.CUkernel(self._handle)
        _check(driver.cuKernelSetAttribute(limit, size, kernel, driver.CUdevice(device)))

    def _function(self) -> driver.CUfunction:
        return _check(driver.cuKernelGetFunction(driver.CUkernel(self._handle)))

    def _config(self, grid: Grid, stream: int) -> driver.CUlaunchConfig:
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY = grid.blocks
        config.gridDimZ = config.blockDimY = config.blockDimZ = 1
        config.blockDimX = grid.threads
        config.sharedMemBytes = self._shared_bytes
        config.hStream = driver.CUstream(stream)
        attributes = []
        if grid.cluster > 1:
            attributes.append(_cluster(grid.cluster))
        if self._overlap:
            attributes.append(_overlap())
        config.attrs = attributes
        config.numAttrs = len(attributes)
        return config


def _cluster(size: int) -> driver.CUlaunchAttribute:
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    attribute.value.clusterDim.x = size
    attribute.value.clusterDim.y = attribute.value.clusterDim.z = 1
    return attribute


def _overlap() -> driver.CUlaunchAttribute:
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    return attribute


def _parameter(argument: Argument) -> tuple[Any, Any]:
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr(), ctypes.c_void_p
    if isinstance(argument, int):
        return argument, ctypes.c_uint32
    return argument, None


def _check(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA refused a call: {status.name}")
    return values[0] if values else None
