# Sourced by the other scripts: brings .venv up to the lock file named by $wanted ("run" or "dev"). Nothing but Python is needed.
python=""
for candidate in python3 python3.11 python3.12 python3.13 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "Python 3.11 or newer is needed and was not found." >&2; exit 1; }

# A stamp per lock file says which one .venv was made from; "dev" contains "run".
lock="requirements/$wanted.lock"
want=$(cksum <"$lock")-$("$python" --version)
for stamp in .venv/made-from-dev ".venv/made-from-$wanted"; do
    other="requirements/${stamp##*-}.lock"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(cksum <"$other")-$("$python" --version)" ] && { want=""; break; }
done
if [ -n "$want" ]; then
    echo "Setting up .venv from $lock ..." >&2
    if [ ! -x .venv/bin/pip ]; then
        "$python" -m venv .venv || { echo "Python's venv module does not work here; on Debian: apt-get install python3-venv" >&2; exit 1; }
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s' "$want" >".venv/made-from-$wanted"
fi
