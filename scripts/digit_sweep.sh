#!/usr/bin/env bash
# Floor, two adaptations and ceiling on the digit pairs, three seeds each, as one sweep that can be killed and run again.
# Needs tlrun on the PATH; the USPS pairs need its files (TLRUN_DATA, or data.download=true). Hours on 2 cores.
#   scripts/digit_sweep.sh [OVERRIDES]        such as device=cuda, engine.epochs=2, run.root=DIR
set -euo pipefail

pairs=mnist_mnistm
data=${TLRUN_DATA:-data}
if [ -f "$data/usps/usps.bz2" ] || [ -f "$data/usps.bz2" ] || [[ " $* " == *" data.download=true "* ]]; then
    pairs+=,mnist_usps,usps_mnist
else
    echo "the USPS pairs are left out: no usps.bz2 under $data; data.download=true fetches it" >&2
fi
tlrun -m strategy=source_only,dann,mmd,target_only "data=$pairs" seed=0,1,2 "$@"
