#!/bin/sh
# In the build stage: install the Debian packages that the image is made of, as far as the base has none of them.
set -eu
wanted="ca-certificates iptables python3 python3-venv"
missing=""
for package in $wanted; do
    dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # several words on purpose
apt-get install -y -qq --no-install-recommends $missing
