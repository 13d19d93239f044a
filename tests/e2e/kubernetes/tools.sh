#!/bin/sh
# Builds what a node needs besides Kubernetes, once, and prints where it is: `tools.sh pause`, the program that holds a Pod's
# namespaces; `tools.sh helm`. Needs Go.
set -eu
cd "$(dirname "$0")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/azwi-e2e"
helm=3.22.0
case "$1" in
pause) program="$cache/pause-$(sha256sum <pause/main.go | cut -c1-12)" ;;
helm) program="$cache/helm-$helm" ;;
esac
if [ ! -x "$program" ]; then
    command -v go >/dev/null 2>&1 || {
        echo "make e2e-node: Go is missing; install Go 1.24 or newer" >&2
        exit 1
    }
    mkdir -p "$cache"
    export CGO_ENABLED=0
    case "$1" in
    pause) go build -trimpath -ldflags "-s -w" -o "$program.$$" pause/main.go ;;
    helm)
        echo "building helm $helm, which takes minutes" >&2
        GOBIN="$program.$$.d" go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$helm" >&2
        mv "$program.$$.d/helm" "$program.$$"
        rmdir "$program.$$.d"
        ;;
    esac
    mv "$program.$$" "$program"
fi
echo "$program"
