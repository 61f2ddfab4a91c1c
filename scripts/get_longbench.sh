#!/usr/bin/env bash
# Fetches LongBench: the data of its tasks, and jieba's dictionary for the Chinese ones.
#
#   scripts/get_longbench.sh [v1] [v2] [words] [--jieba FOLDER] [DIR]
#
# DIR: datasets/longbench in the project, where the tasks look; for another one give them --data DIR.
# v1     LongBench and LongBench-E: data.zip of huggingface.co/datasets/THUDM/LongBench, 34 files
# v2     LongBench v2: data.json of huggingface.co/datasets/THUDM/LongBench-v2, as longbench_v2.json
# words  jieba.txt, from the Python package jieba 0.42.1 (19 MB), or from an installed one: --jieba FOLDER, the folder
#        with its dict.txt (Debian: python3-jieba, /usr/lib/python3/dist-packages/jieba)
# Without any of the three: all.  The hub's files are checked by the sha256 it announces, the package by the one below.
# What is there and unchanged is not fetched again, a part of a file is continued.
# HF_TOKEN, HF_ENDPOINT: as for get_model.sh.
set -eu
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/hub.sh"

JIEBA_SHA256=055ca12f62674fafed09427f176506079bc135638a14e23e25be909131928db2
SETS="narrativeqa qasper multifieldqa_en multifieldqa_zh hotpotqa 2wikimqa musique dureader gov_report qmsum multi_news
vcsum trec triviaqa samsum lsht passage_count passage_retrieval_en passage_retrieval_zh lcc repobench-p
qasper_e multifieldqa_en_e hotpotqa_e 2wikimqa_e gov_report_e multi_news_e trec_e triviaqa_e samsum_e passage_count_e
passage_retrieval_en_e lcc_e repobench-p_e"
topic=longbench
elsewhere="give a folder on another disk"

# Are the files of this part there as they were written?
is_there() { # $1 = part
    [ -f "$dir/$1.sha256" ] && (cd "$dir" && sha256sum --check --status --strict "$1.sha256" 2>/dev/null)
}

mark() { # $1 = part, $2... = its files
    local part=$1
    shift
    (cd "$dir" && sha256sum -- "$@" >".$part.sha256.new" && mv ".$part.sha256.new" "$part.sha256")
}

# One line of the file list in $2...: size, sha256 or -, of the file $1
entry_of() {
    python3 -IS - "$@" <<'PY'
import json, re, sys
try:
    for page in sys.argv[2:]:
        for e in json.load(open(page, encoding="utf-8")):
            if e["path"] == sys.argv[1] and e["type"] == "file":
                lfs = e.get("lfs")
                sha = re.fullmatch("[0-9a-f]{64}", lfs["oid"]).group() if lfs else "-"
                print(int((lfs or e)["size"]), sha)
                sys.exit()
except (ValueError, LookupError, TypeError, AttributeError):
    sys.exit("longbench: the server's file list cannot be understood; is HF_ENDPOINT a hub?")
sys.exit(f"longbench: the repository has no file {sys.argv[1]}")
PY
}

fetch() { # $1 = repository, $2 = file, into $dir
    local commit entry
    open_hub datasets "$1" main
    ask "$api/revision/main" "$work/info" "$1"
    commit=$(commit_of "$work/info")
    list_files "$commit"
    entry=$(entry_of "$2" "${pages[@]}")
    printf '%s\t%s\t%s\t%s\n' $entry "$2" "$2" >"$work/files"
    check_room "$work/files" "$dir"
    fetch_file ${entry% *} "${entry#* }" "$web/resolve/$commit/$2" "$2" "$dir"
    rm -rf "$work"
}

# Takes the 34 files out of data.zip, and nothing else.
unpack() {
    python3 -IS - "$dir" $SETS <<'PY'
import os, shutil, sys, zipfile
folder, sets = sys.argv[1], sys.argv[2:]
try:
    with zipfile.ZipFile(folder + "/data.zip") as z:
        inside = {name.rsplit("/", 1)[-1]: name for name in z.namelist()}
        missing = [s for s in sets if s + ".jsonl" not in inside]
        if missing:
            sys.exit(f"longbench: data.zip lacks {', '.join(missing)}")
        for s in sets:
            to = f"{folder}/{s}.jsonl"
            with z.open(inside[s + ".jsonl"]) as src, open(to + ".new", "wb") as out:
                shutil.copyfileobj(src, out, 1 << 20)
            os.replace(to + ".new", to)
except (OSError, zipfile.BadZipFile) as e:
    sys.exit(f"longbench: data.zip cannot be unpacked: {e}")
PY
}

get_v1() {
    fetch THUDM/LongBench data.zip
    unpack
    rm -f "$dir/data.zip"
    mark v1 $(printf '%s.jsonl ' $SETS)
}

get_v2() {
    fetch THUDM/LongBench-v2 data.json
    mv "$dir/data.json" "$dir/longbench_v2.json"
    mark v2 longbench_v2.json
}

get_words() {
    local from=$jieba
    work=$(mktemp -d "$dir/.words.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    if [ -z "$from" ]; then
        say "the Python package jieba 0.42.1"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$work" \
            jieba==0.42.1 || fail "the package jieba could not be fetched. Check the network, or give an installed one" \
            "with --jieba FOLDER"
        check_sha "$work/jieba-0.42.1.tar.gz" $JIEBA_SHA256 "package jieba"
        tar -xzf "$work/jieba-0.42.1.tar.gz" -C "$work" || fail "the package jieba cannot be unpacked"
        from=$work/jieba-0.42.1/jieba
    fi
    [ -f "$from/dict.txt" ] && [ -f "$from/finalseg/prob_emit.py" ] ||
        fail "$from holds no dict.txt and finalseg/prob_emit.py: it is no folder of the package jieba"
    python3 "$ROOT/scripts/jieba_words.py" "$from" "$work/jieba.txt" || fail "$from cannot be read as jieba's data"
    mv "$work/jieba.txt" "$dir/jieba.txt"
    rm -rf "$work"
    mark words jieba.txt
}

usage() {
    sed -n '4p' "$0" | sed 's/^# *//' >&2
    exit 2
}

parts="" jieba="" dir=""
while [ $# -gt 0 ]; do
    case $1 in
    v1 | v2 | words) parts="$parts $1" ;;
    --jieba) [ $# -ge 2 ] || usage; jieba=$2; shift ;;
    -*) usage ;;
    *) [ -z "$dir" ] || usage; dir=$1 ;;
    esac
    shift
done
dir=${dir:-$ROOT/datasets/longbench}
mkdir -p "$dir" || fail "$dir cannot be made"
dir=$(cd "$dir" && pwd)
for part in ${parts:-v1 v2 words}; do
    if is_there "$part"; then
        say "$part is there"
    else
        "get_$part"
    fi
done
printf '%s\n' "$dir"
