#!/usr/bin/env bash
# The long form of the fuzzing that the tests do briefly: each target for SECONDS_EACH (600).
set -euo pipefail
cd "$(dirname "$0")/../.."
for target in adapter_config hat lock manifest recipe reference registry_api safetensors \
  server_api template; do
  printf '== %s\n' "$target"
  .venv/bin/python -m tests.fuzz "$target" -max_total_time="${SECONDS_EACH:-600}" -timeout=10
done
