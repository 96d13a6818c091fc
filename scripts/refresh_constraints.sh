#!/usr/bin/env bash
# Resolves every dependency anew and writes constraints.txt. TORCH and TORCHVISION name the pair to hold.
#   scripts/refresh_constraints.sh
#   TORCH=2.14.0 TORCHVISION=0.29.0 scripts/refresh_constraints.sh
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv

printf 'torch==%s\ntorchvision==%s\n' "${TORCH:-2.13.0}" "${TORCHVISION:-0.28.0}" > "$work/pins.txt"
"$work/venv/bin/uv" pip compile pyproject.toml --all-extras --constraint "$work/pins.txt" \
    --python-version 3.11 --python-platform linux --upgrade --quiet \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file "$work/constraints.txt"

{
    echo "# The exact versions of an installation: pip install --constraint constraints.txt --editable '.[dev]'"
    echo "# Made by scripts/refresh_constraints.sh. One file for CPU and GPU: torch==X also takes X+cpu where that is at"
    echo "# hand, and what a line names is only held to its version if something needs it, so a machine without a GPU"
    echo "# build of torch installs none of the nvidia lines."
    cat "$work/constraints.txt"
} > constraints.txt
echo "constraints.txt: $(grep -c '==' constraints.txt) packages"
