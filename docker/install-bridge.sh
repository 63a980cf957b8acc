#!/bin/sh
# Install the bridge, with the drivers of its real engines, with PDF and without torch: install-bridge.sh VENV [pip options]
set -eu

venv="$1"
shift
docker="$(cd "$(dirname "$0")" && pwd)"

"$docker/make-venv.sh" "$venv"
"$venv/bin/python" -m pip install -q "$@" "${docker%/*}[bridge,postgresql,redis,report]"
