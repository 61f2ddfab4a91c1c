#!/usr/bin/env bash
# Installs what is missing, builds and runs every test twice: in a release build and under ASan + UBSan.
# Usage: scripts/test.sh [--quick]       --quick: the release build only
set -eu
. "$(dirname "$0")/common.sh"
quick=0
[ "${1:-}" = --quick ] && quick=1

install_packages
"$ROOT/scripts/get_model.sh" || echo "tests that need the default model will be skipped"

run_tests() { # $1 = build folder
    # the sanitizers slow programs down by several times; tests share the cores
    (cd "$1" && ctest --output-on-failure -j "$(nproc)" --timeout 900)
}

echo "== release build"
build "$ROOT/build"
run_tests "$ROOT/build"
[ $quick = 1 ] && exit 0

echo "== ASan + UBSan build"
build "$ROOT/build-asan" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" -DKV_SANITIZE=address,undefined \
    -DKV_CUDA=OFF
run_tests "$ROOT/build-asan"

echo "== README tables are those of the committed results"
"$ROOT/scripts/update_readme.py" --check
