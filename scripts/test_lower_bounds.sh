#!/usr/bin/env bash
# Runs the tests in a fresh environment with other versions than those of constraints.txt.
#   scripts/test_lower_bounds.sh [PYTEST ARGUMENTS]               the oldest that pyproject.toml allows
#   scripts/test_lower_bounds.sh --hydra-pre [PYTEST ARGUMENTS]   the newest, with the pre-release of hydra-core 1.4
# torch and torchvision are those of constraints.txt in both, which are also the oldest ones allowed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
more=()
if [ "${1:-}" = --hydra-pre ]; then
    shift
    grep -vE '^(hydra-core|omegaconf|antlr4-python3-runtime)==' constraints.txt > "$work/constraints.txt"
    more=('hydra-core>=1.4.0rc1,<1.5')
else
    "$work/venv/bin/pip" install --quiet uv
    grep -E '^(torch|torchvision)==' constraints.txt > "$work/pins.txt"
    "$work/venv/bin/uv" pip compile pyproject.toml --extra dev --resolution lowest-direct --quiet \
        --python-version 3.11 --constraint "$work/pins.txt" --output-file "$work/constraints.txt"
fi
"$work/venv/bin/pip" install --quiet --constraint "$work/constraints.txt" --editable '.[dev]' "${more[@]}"
"$work/venv/bin/pip" list | grep -iE '^(torch|torchvision|hydra-core|omegaconf|albumentations|pydantic|numpy|pandas|pillow|tqdm|pytest) '
"$work/venv/bin/python" -m pytest "$@"
