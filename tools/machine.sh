#!/bin/sh
# What some tests need of the machine besides Python: iptables for the redirect, curl. Tests skip what is missing, so this
# is for a machine that is ours to change: root on Debian. `machine.sh node`: what `make image` and `make e2e-node` need, too.
set -eu
missing=""
command -v iptables-restore >/dev/null 2>&1 || missing="$missing iptables"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v setpriv >/dev/null 2>&1 || missing="$missing util-linux"
if [ "${1:-}" = node ]; then
    for program in buildah containerd mmdebstrap runc; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    command -v nft >/dev/null 2>&1 || missing="$missing nftables"
    command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
    [ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tools/machine.sh: not installed, and some tests will skip:$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # several words on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
