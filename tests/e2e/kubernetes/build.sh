#!/bin/sh
# Builds the control plane of the tests once, and prints where the program is. Needs Go; takes minutes the first time.
set -eu
cd "$(dirname "$0")"
release="$(sed -n 's|^\tk8s.io/kubernetes v||p' go.mod)"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/azwi-e2e"
program="$folder/kubernetes-$release-$(cat main.go go.mod go.sum | sha256sum | cut -c1-12)"
if [ ! -x "$program" ]; then
    command -v go >/dev/null 2>&1 || {
        echo "make e2e: Go is missing; install Go 1.24 or newer, or name a cluster for tests with KUBECONFIG" >&2
        exit 1
    }
    echo "building Kubernetes $release, which takes minutes" >&2
    mkdir -p "$folder"
    version=k8s.io/component-base/version
    CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" go build -trimpath -o "$program.$$" \
        -ldflags "-s -w -X $version.gitVersion=v$release -X $version.gitMajor=1 -X $version.gitMinor=$(echo "$release" | cut -d. -f2)" .
    mv "$program.$$" "$program"
fi
echo "$program"
