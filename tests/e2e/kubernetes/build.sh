#!/bin/sh
# Builds the control plane of the tests once, and prints where the program is. Needs Go; takes minutes the first time.
# KUBERNETES_VERSION names another release than the one in go.mod, such as 1.37.2.
set -eu
cd "$(dirname "$0")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/azwi-e2e"
release="$(sed -n 's|^\tk8s.io/kubernetes v||p' go.mod)"
wanted="${KUBERNETES_VERSION:-$release}"
hash="$(cat main.go go.mod go.sum require.sh | sha256sum | cut -c1-12)"
program="$cache/kubernetes-$wanted-$hash"
if [ ! -x "$program" ]; then
    command -v go >/dev/null 2>&1 || {
        echo "make e2e: Go is missing; install Go 1.24 or newer, or name a cluster for tests with KUBECONFIG" >&2
        exit 1
    }
    echo "building Kubernetes $wanted, which takes minutes" >&2
    mkdir -p "$cache"
    if [ "$wanted" != "$release" ]; then
        folder="$cache/module-$wanted-$hash"
        mkdir -p "$folder"
        cp main.go "$folder"
        ./require.sh "$wanted" "$folder"
        cd "$folder"
    fi
    version=k8s.io/component-base/version
    CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" go build -trimpath -o "$program.$$" \
        -ldflags "-s -w -X $version.gitVersion=v$wanted -X $version.gitMajor=1 -X $version.gitMinor=$(echo "$wanted" | cut -d. -f2)" .
    mv "$program.$$" "$program"
fi
echo "$program"
