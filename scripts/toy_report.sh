#!/usr/bin/env bash
# The toy experiment, from nothing to its report and pictures in under a minute on two cores: two Gaussian clusters, the
# target rotated and shifted, five labels a class granted. Training from scratch on those, direct transfer, and MMD
# with fine-tuning, five seeds each; scikit-learn's SVC stands beside them in the table and among the boundaries.
#   scripts/toy_report.sh [FOLDER [OVERRIDES]]                         for instance /tmp/toy data.target.rotation=90
# Runs go to FOLDER/runs, pictures and tables to FOLDER/report (FOLDER: outputs/toy). Needs tlrun on the PATH.
set -euo pipefail

folder=${1:-outputs/toy}
[ $# -eq 0 ] || shift

tlrun -m strategy=scratch,source_only,mmd data=toy_gaussians seed=0,1,2,3,4 engine.batch_size=32 \
    device=cpu device.threads=1 run.root="$folder/runs" "$@"
tlrun report "$folder/runs" --out "$folder/report" --csv "$folder/report/table.csv" --latex "$folder/report/table.tex"
