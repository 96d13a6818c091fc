#!/usr/bin/env bash
# A table of digits: every method between its floor (source_only) and its ceiling (target_only), three pairs, three seeds.
#   scripts/digit_sweep.sh [OVERRIDES]                                 for instance run.root=/scratch/digits device=cuda
#   scripts/digit_sweep.sh engine.epochs=2 engine.steps_per_epoch=50   in minutes, to see that everything works
# 36 runs, one after the other: about two hours on 2 cores, minutes on a GPU. Interrupted and started again it goes on
# where it was; a run that failed does not stop the others, and what is finished is not done again.
# Needs tlrun on the PATH. MNIST and MNIST-M are shipped or made; USPS must be there (two files, see the message below)
# or may be fetched: add data.download=true. Without it the two pairs with USPS are left out.
set -euo pipefail

pairs=mnist_mnistm
root=${TLRUN_DATA:-data}
cache=${TLRUN_CACHE:-$HOME/.cache/tlrun}
for override in "$@"; do
    case $override in
        data.root=*) root=${override#*=} ;;
        data.cache_root=*) cache=${override#*=} ;;
    esac
done

# Where tlrun looks for USPS, in its order.
has_usps() {
    local folder file
    for file in usps.bz2 usps.t.bz2; do
        for folder in "$root/usps" "$root" "$cache/usps"; do
            [ -f "$folder/$file" ] && continue 2
        done
        return 1
    done
}
if has_usps || [[ " $* " == *" data.download=true "* ]]; then
    pairs+=,mnist_usps,usps_mnist
else
    echo "no usps.bz2 and usps.t.bz2 under $root/usps, $root or $cache/usps: leaving out mnist_usps and usps_mnist;" \
        "data.download=true fetches them" >&2
fi

# One line a finished run on standard output, its folder; the log is on standard error.
folders=$(mktemp)
trap 'rm -f "$folders"' EXIT
code=0
tlrun -m strategy=source_only,dann,mmd,target_only data="$pairs" seed=0,1,2 "$@" | tee "$folders" || code=$?

# The same set of seeds in every cell, so that the cells can be compared; what is missing is a dash.
python3 - "$folders" <<'PY'
import json
import statistics
import sys
from pathlib import Path

cells = {}
for folder in Path(sys.argv[1]).read_text().splitlines():
    summary = json.loads((Path(folder) / "summary.json").read_text())
    cells.setdefault((summary["strategy"], summary["data"]), []).append(100 * summary["target_test_accuracy"])
pairs = list(dict.fromkeys(pair for _, pair in cells))
print("\ntarget test accuracy in %, mean and sample standard deviation over seeds")
print(f"{'':12}" + "".join(f"{pair:>22}" for pair in pairs))
for strategy in ("source_only", "dann", "mmd", "target_only"):
    row = ""
    for pair in pairs:
        values = cells.get((strategy, pair), [])
        spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        row += f"{statistics.mean(values):.2f}{spread} ({len(values)})".rjust(22) if values else "-".rjust(22)
    print(f"{strategy:12}{row}")
PY
exit "$code"
