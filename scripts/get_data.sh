#!/usr/bin/env bash
# Fetches data sets that are not part of the project into datasets/data/fetched.
#
#   scripts/get_data.sh NAME [FILE]     FILE: the upstream file, if it is here already
#
#   aime24        30 problems of AIME 2024 (157 kB): they belong to the Mathematical Association of America
#   gsm8k_train   7,473 training problems of GSM8K (4.2 MB, MIT): the examples of task gsm8k_5shot
#
# What comes in and what is made of it is checked by sha256 (scripts/make_data.py).
set -eu
. "$(dirname "$0")/common.sh"
topic=data

usage() {
    sed -n '4,7p' "$0" | sed 's/^# *//' >&2
    exit 2
}

[ $# -ge 1 ] && [ $# -le 2 ] || usage
raw=https://raw.githubusercontent.com
case $1 in
aime24) url=$raw/Zefan-Cai/R-KV/d15c9767e67c2bd9807128fecc35223fa2484a69/data/aime24.jsonl ;;
gsm8k_train) url=$raw/openai/grade-school-math/master/grade_school_math/data/train.jsonl ;;
*) usage ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file=$work/${url##*/}
if [ $# = 2 ]; then
    cp -- "$2" "$file" || fail "$2 cannot be read"
else
    command -v curl >/dev/null || fail "curl is needed; or fetch $url and give it as FILE"
    curl --location --fail --silent --show-error --retry 4 --connect-timeout 30 -o "$file" -- "$url" ||
        fail "$url could not be fetched. Check the network, or give a copy of it: $0 $1 FILE"
fi
python3 "$ROOT/scripts/make_data.py" "$1" "$file"
