#!/usr/bin/env bash
# From a fresh clone to the accuracy-against-memory picture: installs missing packages, fetches the default model,
# builds, runs five policies and draws.  Two cores and no GPU are enough: a few minutes after the downloads.
# Usage: scripts/quickstart.sh           countdown and needle, two budgets, 16 items a cell
#        scripts/quickstart.sh --full    five tasks, four budgets, 100 items a cell (hours on two cores)
# A repeated or interrupted call resumes.
set -eu
. "$(dirname "$0")/common.sh"
full=0
case "${1:-}" in
"") ;;
--full) full=1 ;;
*)
    echo "usage: scripts/quickstart.sh [--full]" >&2
    exit 2
    ;;
esac

install_packages
"$ROOT/scripts/get_model.sh"
echo "build: $ROOT/build"
build "$ROOT/build"
bench=$ROOT/build/trimbench
policies=full,window,h2o,snapkv,trimkv
start=$SECONDS

if [ $full = 0 ]; then
    db=$ROOT/results/quickstart.sqlite
    "$bench" run --task countdown_0.5k,needle --policy $policies --budget 192,256 --limit 16 --db "$db"
else
    db=$ROOT/results/quickstart-full.sqlite
    "$bench" run --task countdown_0.5k,countdown_2k,needle,path_traversal_0.5k,gsm8k --policy $policies \
        --budget 128..1024*2 --limit 100 --db "$db"
fi
"$bench" plot --db "$db"
echo "runs and plots took $((SECONDS - start)) s"
