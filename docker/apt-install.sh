#!/bin/sh
# Install Debian packages, each given as PROGRAM:PACKAGE, whose program is absent. Starts no service.
set -eu

PATH="$PATH:/usr/sbin:/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)"
export PATH DEBIAN_FRONTEND=noninteractive

missing=""
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Please install as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi

# Debian asks policy-rc.d before it starts what it has installed; 101 is "not here". An existing one is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

$as_root apt-get update -q
# shellcheck disable=SC2086  # one word a package
$as_root env DEBIAN_FRONTEND="$DEBIAN_FRONTEND" apt-get install -q -y --no-install-recommends $missing
