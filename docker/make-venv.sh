#!/bin/sh
# Make the virtual environment VENV with Python 3.11 or newer, unless a working one is there: make-venv.sh VENV
set -eu

venv="$1"
python="${PYTHON:-python3}"
here="$(dirname "$0")"

"$venv/bin/python" -m pip --version >/dev/null 2>&1 && exit 0

"$here/apt-install.sh" "$python:python3"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "BTT Bridge needs Python 3.11 or newer; $python is $("$python" --version). Set PYTHON to a newer one." >&2
    exit 1
fi
# Debian keeps ensurepip in a package of its own.
"$python" -c 'import ensurepip' 2>/dev/null || "$here/apt-install.sh" no-such-program:python3-venv
"$python" -m venv --clear "$venv"
