# hub.sh - sourced by get_model.sh and get_longbench.sh: files of a Hugging Face repository, checked and resumable.
#
# The caller has sourced common.sh and sets $topic and $elsewhere, the advice for a full disk.  open_hub comes first.

TRIES=4 # of one request or file, before the connection counts as lost

# open_hub KIND REPO REVISION: KIND is models or datasets.  Sets $endpoint $token $repo $revision $api (of the
# repository), $web (its page, below which its files are) and $work, a folder that is removed at the end.
open_hub() {
    repo=$2 revision=$3 endpoint=${HF_ENDPOINT:-https://huggingface.co} token=${HF_TOKEN:-}
    endpoint=${endpoint%/} token=${token//[[:space:]]/}
    case $endpoint in http://?* | https://?*) ;; *) fail "HF_ENDPOINT is no address: $endpoint" ;; esac
    [[ $revision =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*$ && $revision != *..* && $revision != */ ]] ||
        fail "'$revision' is no revision; give a branch, a tag or a commit"
    { command -v curl && command -v python3; } >/dev/null || fail "this needs curl and python3 (apt-get install curl python3)"
    api=$endpoint/api/$1/$repo web=$endpoint/$repo
    [ "$1" = models ] || web=$endpoint/$1/$repo
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
}

size_of() { if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi; }

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
    RevisionNotFound:*) fail "$repo has no revision '$revision': see $web/branches" ;;
    GatedRepo:* | *:403)
        fail "$1: access refused $whose ($status). $repo is gated, or the token does not cover it: accept its" \
            "conditions at $web, then set HF_TOKEN to a token of that account with read access to gated" \
            "repositories ($endpoint/settings/tokens)"
        ;;
    RepoNotFound:* | *:404)
        fail "$1: not found $whose ($status). There is no $repo on $endpoint (letter case counts), or it is private" \
            "or gated: then accept its conditions at $web and set HF_TOKEN to a token that may read it"
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
        "$place. Make room, or $elsewhere, and run this again$2" ;;
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
    sys.exit("the server's answer names no commit; is HF_ENDPOINT a hub?")
PY
}

# Pages of the file list to $work/tree.1 and so on; of the link to the next one only the query counts, so that the
# answer cannot send the token elsewhere.
list_files() { # $1 = commit
    local base=$api/tree/$1 query=recursive=true link n=0
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

# A line for $checked, a file that the caller may name: large files whose sha256 was right, as they were then.  Hashing
# 16 GB again takes a minute.
line_of() { # $1 = file, $2 = sha256
    printf '%s %s %s\n' "$2" "$(stat -Lc '%s %y %i' "$1")" "$1"
}

was_right() { # as is_right
    [ -n "${checked:-}" ] && [ -f "$checked" ] && [ -f "$1" ] && [ "$(size_of "$1")" = "$2" ] && [ "$3" != - ] &&
        grep -qxF -e "$(line_of "$1" "$3")" "$checked"
}

note_right() {
    [ -z "${checked:-}" ] || [ "$3" = - ] || line_of "$1" "$3" >>"$checked"
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
    if was_right "$to" "$1" "$2" || { is_right "$to" "$1" "$2" && note_right "$to" "$1" "$2"; }; then
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
    note_right "$to" "$1" "$2"
}

# What is still to come must fit on the disk.
check_room() { # $1 = list, $2 = folder
    local size sha url path need=0 kb
    while IFS=$'\t' read -r size sha url path; do
        [ -f "$2/$path" ] || need=$((need + size - $(size_of "$2/$path.part")))
    done <"$1"
    kb=$(free_kb "$2")
    [ -z "$kb" ] || [ $((need / 1024)) -lt "$kb" ] ||
        fail "the disk is too full: $((need / 1024)) KB are to come, $kb KB are free at $2. Make room, or" \
            "$elsewhere"
}
