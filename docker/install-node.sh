#!/bin/sh
# Install a GPU node from what docker/node-files.py gathered: install-node.sh VENV FOLDER [pip options]
#
# pip takes torch from wherever it is configured to look; with PyTorch's own index of CPU builds among those
# (PIP_EXTRA_INDEX_URL), a machine without a GPU is spared the CUDA libraries.
set -eu

venv="$1"
folder="$2"
shift 2
docker="$(cd "$(dirname "$0")" && pwd)"

"$docker/make-venv.sh" "$venv"
"$venv/bin/python" -m pip install -q "$@" "$folder[node]"
