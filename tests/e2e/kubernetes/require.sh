#!/bin/sh
# require.sh RELEASE FOLDER: writes FOLDER/go.mod and go.sum for another Kubernetes release than the one in go.mod here.
# Kubernetes requires its staging modules at v0.0.0, so that each consumer has to pin them: release 1.X.Y has them at v0.X.Y.
set -eu
release="$1" folder="$2" staging="v0.${1#*.}"
theirs="$(cd / && GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@v$release" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')"
go="$(sed -n 's/^go //p' "$theirs")"
version() { sed -n "s|^\t$1 \(v[^ ]*\).*|\1|p" "$theirs"; }
{
    printf 'module example.invalid/kubernetes\n\ngo %s\n\ngodebug default=go%s\n\nrequire (\n' "$go" "$(echo "$go" | cut -d. -f1,2)"
    printf '\t%s %s\n' github.com/spf13/cobra "$(version github.com/spf13/cobra)" \
        go.etcd.io/etcd/server/v3 "$(version go.etcd.io/etcd/server/v3)" \
        k8s.io/component-base "$staging" k8s.io/kubectl "$staging" k8s.io/kubernetes "v$release"
    printf ')\n\nreplace (\n'
    sed -n 's|^\t\(k8s\.io/[a-z-]*\) => \./staging.*|\1|p' "$theirs" | sort -u | grep -v '/sample-' |
        sed "s|.*|\t& => & $staging|"
    printf ')\n'
} >"$folder/go.mod"
rm -f "$folder/go.sum"
(cd "$folder" && GOFLAGS=-mod=mod go mod tidy)
