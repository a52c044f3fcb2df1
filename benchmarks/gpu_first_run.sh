#!/usr/bin/env bash
# Everything that a first run on a machine with one NVIDIA GPU is to measure, in one call, without a network.
#
#   OUT=figures bash benchmarks/gpu_first_run.sh [WHEELS]
#
# OUT: an empty folder for what is measured, at most nine files. WHEELS: a folder with the wheels of what that
# machine lacks, metabench's own among them (default .whl; absent: nothing is installed). TOTAL: seconds for
# all steps (default 465). STEPS: which, in this order. Each step has a limit of its own and none begins
# without time left; what a step wrote until its end is kept. DRY_RUN=1 goes through the same steps without a
# GPU, at sizes that take seconds.
#
#   log.txt  all that was printed     tests.xml  tests of the GPU       probe.json  roofs, convolutions, kernels
#   gpu.json, plain.json, compiled.json  benchmarks/gpu.py              results.tgz  the cells' results
set -u
: "${OUT:?must name the folder for what is measured}"
STEPS=${STEPS:-"doctor tests probe gpu plain cells scaling compiled"}
TOTAL=${TOTAL:-465} WHEELS=${1:-.whl} PYTHON=${PYTHON:-python3} DRY_RUN=${DRY_RUN:-0}
ROOT=$(cd "$(dirname "$0")/.." && pwd)
SCRATCH=$(mktemp -d)
SECONDS=0
mkdir -p "$OUT"
exec > >(tee "$OUT/log.txt") 2>&1
trap 'rm -rf "$SCRATCH"' EXIT
export PYTHONUNBUFFERED=1 COLUMNS=180 OMP_NUM_THREADS=1 TORCHINDUCTOR_CACHE_DIR=$SCRATCH/inductor
cd "$ROOT" || exit 3

dry=() quick=()
((DRY_RUN)) && dry=(--dry-run) quick=(--dry-run) || quick=(--quick)

step() { # name, limit in seconds, command …
  local name=$1 limit=$2 left=$((TOTAL - SECONDS)) begun=$SECONDS
  shift 2
  [[ " $STEPS " == *" $name "* ]] || return 0
  if ((left < 20)); then
    echo "== $name: not begun, $left s left"
    return 0
  fi
  ((limit > left - 5)) && limit=$((left - 5))
  echo "== $name: begins at $begun s, has $limit s"
  timeout -k 5 "$limit" "$@"
  echo "== $name: exit status $? after $((SECONDS - begun)) s"
}

if [[ -d $WHEELS ]]; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --root-user-action=ignore --upgrade --target "$SCRATCH/site" "$WHEELS"/*.whl || exit 3
  export PYTHONPATH=$ROOT/harness:$ROOT/plugins:$SCRATCH/site
fi
if command -v nvidia-smi; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,temperature.gpu,power.limit --format=csv
fi

step doctor 60 "$PYTHON" -m metabench.cli doctor
# the image's warnings are others than those of the tests' own environment: they are no errors here
step tests 120 "$PYTHON" -m pytest -q -W default -p no:cacheprovider --timeout=100 --junitxml="$OUT/tests.xml" \
  -k "gpu or captured or cuda or nccl or host" tests/plugins/backends/test_cuda.py tests/engine/test_adapt.py \
  tests/plugins/datasets/test_datasets.py
step probe 90 "$PYTHON" benchmarks/gpu_probe.py "${dry[@]}" --json "$OUT/probe.json"
step gpu 130 "$PYTHON" benchmarks/gpu.py "${dry[@]}" --executions eager,cuda-graph --json "$OUT/gpu.json"
# the same by torch's own operations in place of Triton's kernels
step plain 60 env METABENCH_KERNELS=0 "$PYTHON" benchmarks/gpu.py "${quick[@]}" --executions cuda-graph --json "$OUT/plain.json"
# the backends say why they cannot run where there is no GPU, and each cell is a skipped one
step cells 140 "$PYTHON" -m metabench.cli run benchmarks/first-gpu.toml --results "$SCRATCH/results" --timeout 60
step scaling 150 "$PYTHON" -m metabench.cli run suites/scaling-cuda.toml --only ranks=1 --results "$SCRATCH/results" --timeout 70
[[ -d $SCRATCH/results ]] && tar -C "$SCRATCH" --exclude=jobs -czf "$OUT/results.tgz" results
# last, because each compilation takes a minute
step compiled 240 "$PYTHON" benchmarks/gpu.py "${quick[@]}" --executions compiled --json "$OUT/compiled.json"
if command -v nvidia-smi > /dev/null; then
  nvidia-smi --query-gpu=clocks.sm,temperature.gpu,power.draw,clocks_event_reasons.active --format=csv
fi
echo "== done at $SECONDS s"
