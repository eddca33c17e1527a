"""`hatstand serve`: its options in the order of `--help`, and the settings they become."""

from __future__ import annotations

from typing import Any

from .failures import explained
from .registry_option import RegistryOption
from .serve_options import adapters, engine, processes, requests
from .serve_options.engine import Device, Gemm
from .serve_options.processes import SUPERVISED, LogFormat
from .serve_options.requests import PrefixScope


def serve(
    base: engine.BaseOption,
    registry: RegistryOption = None,
    device: engine.DeviceOption = Device.auto,
    host: requests.HostOption = "127.0.0.1",
    port: requests.PortOption = 8000,
    replicas: processes.ReplicasOption = 1,
    pin: adapters.PinOption = None,
    max_slots: engine.MaxSlotsOption = None,
    max_rank: engine.MaxRankOption = None,
    max_batch: engine.MaxBatchOption = None,
    max_queue: engine.MaxQueueOption = None,
    adapter_share: engine.AdapterShareOption = 0.125,
    max_context: engine.MaxContextOption = None,
    kv_memory: engine.KvMemoryOption = None,
    host_memory: engine.HostMemoryOption = None,
    shadow_bf16: engine.ShadowOption = None,
    gemm: engine.GemmOption = Gemm.exact,
    fp8_kv: engine.Fp8KvOption = False,
    require_receipt: adapters.RequireReceiptOption = False,
    require_signature: adapters.RequireSignatureOption = None,
    fine_tuning: adapters.FineTuningOption = False,
    keep_responses: requests.KeepResponsesOption = True,
    request_timeout: requests.RequestTimeoutOption = None,
    drain_delay: requests.DrainDelayOption = None,
    drain_timeout: requests.DrainTimeoutOption = None,
    api_keys_file: requests.KeysFileOption = None,
    prefix_scope: requests.PrefixScopeOption = PrefixScope.adapter,
    insecure: requests.InsecureOption = False,
    log_format: processes.LogFormatOption = LogFormat.text,
    supervise: processes.SuperviseOption = SUPERVISED,
) -> None:
    """Serve one base and every adapter of a registry over HTTP."""
    with explained("serve", extra="server"):
        from server.serve import serve as run
        from server.settings import ApiSettings, EngineOptions, Settings, find_keys

        where = {} if registry is None else {"registry": registry}
        limits = {
            "request_timeout": request_timeout,
            "drain_delay": drain_delay,
            "drain_timeout": drain_timeout,
        }
        settings = Settings(
            base=base,
            host=host,
            port=port,
            replicas=replicas,
            insecure=insecure,
            fine_tuning=fine_tuning,
            keep_responses=keep_responses,
            log_format=log_format.value,
            supervised=supervise,
            api=ApiSettings(
                keys=find_keys(api_keys_file),
                pins=tuple(pin or ()),
                require_receipt=require_receipt,
                trusted_keys=tuple(require_signature or ()),
                prefix_scope=prefix_scope.value,
                **_given(limits),
            ),
            engine=EngineOptions(
                device=device.value,
                max_slots=max_slots,
                max_rank=max_rank,
                max_batch=max_batch,
                max_queue=max_queue,
                adapter_share=adapter_share,
                max_context=max_context,
                kv_memory=kv_memory,
                host_memory=host_memory,
                shadow_bf16=shadow_bf16,
                gemm=gemm.value,
                fp8_kv=fp8_kv,
            ),
            **where,
        )
        run(settings)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
