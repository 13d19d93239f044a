#!/bin/sh
# Builds the image from image/Containerfile without a registry of images and without Docker, and prints where it is.
#
#   BASE=reference         any image with Debian's packages; else one is made of the packages of SUITE (trixie)
#   PYTHON=...             an interpreter with pip, which gathers the wheels
#
# The same commit, base and wheels give the same bytes. Needs root, buildah, and mmdebstrap where BASE is not given.
set -eu
cd "$(dirname "$0")/.."
out="$PWD/.image"
suite="${SUITE:-trixie}"
python="${PYTHON:-python3}"

missing=""
command -v buildah >/dev/null 2>&1 || missing="$missing buildah"
[ -n "${BASE:-}" ] || command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
if [ -n "$missing" ]; then
    echo "make image: missing:$missing (Debian: apt install --no-install-recommends$missing). With Docker instead:" \
        "docker build -f image/Containerfile ." >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || {
    echo "make image: needs root; or: docker build -f image/Containerfile ." >&2
    exit 1
}

version="$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/azwi/version.py)"
revision="${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
name="${NAME:-localhost/azure-workload-identity:$version}"

mkdir -p "$out"
work="$(mktemp -d)"
store="--storage-driver vfs --root $work/store --runroot $work/run"
trap 'rm -rf "$work"' EXIT INT TERM

if [ -z "${BASE:-}" ]; then
    packages="$(sed -n 's/^wanted="\(.*\)"/\1/p' image/packages.sh | tr ' ' ',')"
    root="$out/base-$suite-$(echo "$packages" | sha256sum | cut -c1-12).tar"
    if [ ! -f "$root" ]; then
        mmdebstrap --quiet --variant=apt --include="$packages" "$suite" "$work/base.tar" >&2
        mv "$work/base.tar" "$root"
    fi
    mkdir "$work/base"
    ln "$root" "$work/base/root.tar" 2>/dev/null || cp "$root" "$work/base/root.tar"
    printf 'FROM scratch\nADD root.tar /\n' >"$work/base/Containerfile"
    # shellcheck disable=SC2086  # options on purpose, here and below
    buildah $store build --quiet --isolation chroot --timestamp 0 -t localhost/base "$work/base" >/dev/null
    BASE=localhost/base
fi

# Wheels for the base's Python, by the package index that this machine is set up for.
# shellcheck disable=SC2086
interpreter="$(buildah $store run --isolation chroot "$(buildah $store from "$BASE")" -- \
    sh -c 'python3 -c "import sys; print(\"%d.%d\" % sys.version_info[:2])"' 2>/dev/null || true)"
if [ -n "$interpreter" ]; then
    machine="$(uname -m)"
    platforms=""
    for glibc in 2_17 2_24 2_26 2_27 2_28 2_31 2_34; do platforms="$platforms --platform manylinux_${glibc}_$machine"; done
    # shellcheck disable=SC2086
    for requirements in runtime build; do
        "$python" -m pip download --quiet --disable-pip-version-check --dest "$out/wheels-$interpreter" --only-binary :all: \
            --no-deps --require-hashes --python-version "$interpreter" --implementation cp --platform "manylinux2014_$machine" $platforms \
            --platform any -r "requirements/$requirements.txt" >&2
    done
    options="--no-index --find-links /src/.image/wheels-$interpreter"
fi

# shellcheck disable=SC2086
buildah $store build --quiet --isolation chroot --format oci --timestamp "$SOURCE_DATE_EPOCH" \
    --build-arg BASE="$BASE" --build-arg PIP_OPTIONS="${options:-}" --build-arg VERSION="$version" \
    --build-arg REVISION="$revision" --build-arg CREATED="$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
    -f image/Containerfile -t "$name" . >&2
# shellcheck disable=SC2086
buildah $store push --quiet "$name" "oci:$work/layout:$name" >&2
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work/layout" -cf "$work/image.tar" .
mv "$work/image.tar" "$out/azure-workload-identity.tar"
echo "$out/azure-workload-identity.tar"
