#!/bin/sh
# install.sh VENV CONSTRAINTS PIP-ARGUMENTS...
# Makes the virtual environment VENV when there is none, and installs into it at the pinned versions.
# $PYTHON names the interpreters to try, in order. An install that was cut short is started afresh.
set -eu
venv=$1
constraints=$2
shift 2

say() { printf '%s\n' "[set-up] $*"; }

suitable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

unfinished=$venv/.unfinished
if [ -e "$unfinished" ]; then
    say "The last installation into $venv was cut short: starting afresh."
    rm -rf "$venv"
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    chosen=
    for candidate in ${PYTHON:-python3}; do
        if suitable "$candidate"; then
            chosen=$candidate
            break
        fi
    done
    if [ -z "$chosen" ]; then
        say "No Python 3.11, 3.12 or 3.13 with venv and pip was found (tried: ${PYTHON:-python3});" \
            "install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
        exit 1
    fi
    say "Making $venv with $("$chosen" --version) ($chosen)."
    mkdir -p "$venv"
    touch "$unfinished"
    "$chosen" -m venv --clear "$venv"
    touch "$unfinished"
fi

touch "$unfinished"
log=$venv/install.log
: >"$log"

# pip's full output goes to the log; the terminal sees the big downloads and the unpacking.
pip_install() {
    rm -f "$venv/.failed"
    {
        "$venv/bin/python" -m pip --disable-pip-version-check install --progress-bar off \
            --constraint "$constraints" "$@" 2>&1 || touch "$venv/.failed"
    } | tee -a "$log" | awk '
        /^ *(Downloading|Using cached) .*[0-9][0-9](\.[0-9]+)? MB/ { print "[set-up]   " $0; fflush() }
        /^Installing collected packages/ { print "[set-up]   Unpacking " NF - 3 " packages"; fflush() }'
    if [ -e "$venv/.failed" ]; then
        grep -v '^WARNING' "$log" | tail -n 20 >&2
        say "pip could not install this; its whole output is in $log." >&2
        exit 1
    fi
}

say "Installing $* at the versions of $constraints; the first time takes a few minutes."
# setuptools is installed here, not in a build environment of pip's own, so that it is pinned too.
pip_install pip setuptools
pip_install --no-build-isolation "$@"
rm -f "$unfinished"
say "Done."
