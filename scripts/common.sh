# common.sh - sourced by the other scripts: where the project is, how they speak, and the system packages it needs.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A script that uses these sets $topic, the word its messages start with.
say() { printf '%s: %s\n' "$topic" "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

sha_of() { sha256sum <"$1" | cut -d' ' -f1; }

# check_sha FILE SHA256 NAME
check_sha() {
    local got
    got=$(sha_of "$1")
    [ "$got" = "$2" ] || fail "the fetched $3 has sha256 $got, expected $2"
}

# Debian package and the file or program that shows it is there.
PACKAGES="
gcc:gcc
g++:g++
cmake:cmake
make:make
pkg-config:pkg-config
git:git
python3:python3
python3-pip:@pip
libcjson-dev:@libcjson
libpcre2-dev:@libpcre2-8
libsqlite3-dev:@sqlite3
libssl-dev:@libcrypto
libzip-dev:@libzip
libutf8proc-dev:@libutf8proc
libseccomp-dev:@libseccomp
libcmocka-dev:@cmocka
libgmp-dev:@gmp
libmpfr-dev:@mpfr
libmpc-dev:/usr/include/mpc.h
uthash-dev:/usr/include/uthash.h
gnuplot-nox:gnuplot
"

have_package() { # $1 = probe
    case $1 in
    @pip) python3 -m pip --version >/dev/null 2>&1 ;;
    @*) command -v pkg-config >/dev/null && pkg-config --exists "${1#@}" ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

install_packages() {
    local missing="" entry
    for entry in $PACKAGES; do
        have_package "${entry#*:}" || missing="$missing ${entry%%:*}"
    done
    [ -n "$missing" ] || return 0
    echo "Needed system packages that are missing:$missing"
    if ! command -v apt-get >/dev/null; then
        echo "This is no Debian or Ubuntu system: install the equivalents of these packages and run the script again." >&2
        return 1
    fi
    local sudo=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "Run as root: apt-get install$missing" >&2
            return 1
        }
        sudo=sudo
    fi
    echo "Installing them with apt-get."
    $sudo apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
        echo "apt-get could not install:$missing" >&2
        return 1
    }
}

# build DIR [cmake options]: configures once, builds with every core.
build() {
    local dir=$1
    shift
    cmake -S "$ROOT" -B "$dir" "$@" >"$dir.configure.log" 2>&1 || {
        cat "$dir.configure.log" >&2
        return 1
    }
    rm -f "$dir.configure.log"
    cmake --build "$dir" -j "$(nproc)" -- -s 2>&1 || cmake --build "$dir"
}
