#!/usr/bin/env bash
# Takes promtool out of Debian's package `prometheus`; installs nothing else, starts nothing. $1: where it is put.
set -euo pipefail
target=$(realpath -m "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
if ! apt-get download prometheus >/dev/null 2>&1; then
    # A machine that is new knows no packages yet.
    apt-get update -qq >/dev/null 2>&1 || true
    apt-get download prometheus >/dev/null
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
install -m 0755 usr/bin/promtool "$target"
