#!/usr/bin/env bash
# The example for your own CI: two short runs, checked by exit code and by summary.json. Under a minute on 2 cores.
# Needs tlrun on the PATH; no data, no network, no GPU. Works from any directory and leaves nothing behind.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run=(tlrun strategy=dann data=mnist_mnistm "run.root=$work/outputs"
    data.source_rows=6000 data.target_rows=6000 engine.epochs=3 engine.steps_per_epoch=60 engine.select=last)

echo "== a short adaptation, which must reach 60 % on the target"
folder=$("${run[@]}" 'run.require="target_test_accuracy>=0.6"' | tail -n 1)

echo "== what its summary says"
python3 - "$folder/summary.json" <<'PY'
import json
import sys

summary = json.load(open(sys.argv[1]))
assert summary["status"] == "done", summary["status"]
assert summary["transfer_alive"]["adversarial"] > 0, "adaptation did nothing"
assert not summary["warnings"], summary["warnings"]
print(f"target {summary['target_test_accuracy']:.3f}, source {summary['source_test_accuracy']:.3f}, "
      f"{summary['seconds']:.0f} s, regret {summary['regret']:.3f}")
PY

echo "== the same command again finds it done, and checks another requirement: exit code 1"
code=0
"${run[@]}" 'run.require="target_test_accuracy>=0.9999"' >/dev/null || code=$?
test "$code" -eq 1

echo "== a mistake in the command: exit code 2, nothing started"
code=0
tlrun strategy=dan "run.root=$work/outputs" 2>/dev/null || code=$?
test "$code" -eq 2

echo "== a sweep over two clusters"
tlrun -m strategy=source_only,mmd data=toy_gaussians seed=0,1 engine.epochs=5 "run.root=$work/outputs" >/dev/null
test "$(find "$work/outputs" -name summary.json | wc -l)" -eq 5

echo "all is well"
