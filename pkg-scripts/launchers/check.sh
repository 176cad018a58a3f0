#!/usr/bin/env bash
# Runs `aim-bench eval` under the launchers that labs have, and holds the merged counts to those of one process.
#
#   AIM_BENCH=target/release/aim-bench pkg-scripts/launchers/check.sh DATA_PATH [what…]      (default: all)
#
# what: torchrun (PyPI's torch), mpirun (Debian's openmpi-bin), slurm (an array, by its variables), ray (PyPI's ray), kill
# (ten times, at random moments), full (a small file system in memory; as root). Not part of check.sh: torch and ray are large.
set -euo pipefail
bench=$(realpath "${AIM_BENCH:-target/release/aim-bench}")
data=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")/../..")
all=(torchrun mpirun slurm ray kill full)
[ $# -gt 0 ] || set -- "${all[@]}"
work=$(mktemp -d)
trap 'umount "$work/small" 2>/dev/null || true; rm -rf "$work"' EXIT
options=(eval --device cpu --data-path "$data" --progress off)

# Fails unless a report says what one process found.
same() {
    python3 - "$work/one.json" "$1" "$2" <<'PYTHON'
import json, sys
one, own = (json.load(open(path)) for path in sys.argv[1:3])
keys = ["pictures", "top_1", "top_5", "loss", "mean_loss", "broken", "errors", "classes", "confusion", "data", "model"]
wrong = [key for key in keys if one.get(key) != own.get(key)]
if wrong:
    sys.exit(f"{sys.argv[3]}: other {wrong}")
print(f"{sys.argv[3]}: {own['pictures']} pictures, top-1 {own['top_1']}, top-5 {own['top_5']}, loss {own['loss']}, broken {own['broken']}: as one process")
PYTHON
}

merged() { # name, folder
    "$bench" merge "$2"/part-*.json --json >"$work/merged.json" || [ $? = 1 ]
    same "$work/merged.json" "$1"
}

"$bench" "${options[@]}" --json >"$work/one.json" 2>/dev/null || [ $? = 1 ]
for what in "$@"; do
    parts=$work/$what
    case $what in
    torchrun)
        torchrun --standalone --nnodes=1 --nproc-per-node=2 --no-python "$bench" "${options[@]}" --parts "$parts" >/dev/null
        merged "torchrun, 2 processes" "$parts"
        ;;
    mpirun)
        mpirun --allow-run-as-root --oversubscribe -n 3 "$bench" "${options[@]}" --parts "$parts" >/dev/null
        merged "mpirun, 3 processes" "$parts"
        ;;
    slurm)
        for task in 10 12 14 16; do
            SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_MAX=16 SLURM_ARRAY_TASK_STEP=2 \
                SLURM_ARRAY_TASK_COUNT=4 "$bench" "${options[@]}" --parts "$parts" >/dev/null
        done
        merged "a Slurm array of 4" "$parts"
        ;;
    ray)
        # Once a part is begun its worker is killed; Ray starts another. The folder's name tells ours from other programs.
        (
            while ! compgen -G "$parts/part-*.json" >/dev/null; do sleep 0.05; done
            ours=$(pgrep -f -- "--parts $parts --rank" | head -1)
            victim=$(ps -o ppid= -p "$ours" | tr -d ' ')
            echo "ray: $(ps -o comm= -p "$victim"), process $victim, is killed" >&2
            kill -9 "$victim"
        ) &
        AIM_BENCH=$bench python3 "$here/examples/ray_eval.py" --parts "$parts" --workers 2 --world-size 6 --json \
            -- --device cpu --data-path "$data" --save-every 0.1 >"$work/ray.json" || [ $? = 1 ]
        wait
        same "$work/ray.json" "Ray, 2 workers, one killed"
        ;;
    kill)
        for _ in $(seq 10); do
            "$bench" "${options[@]}" --parts "$parts" --save-every 0.1 --results-file "$work/results.jsonl" >/dev/null 2>&1 &
            sleep "0.$((RANDOM % 900 + 100))"
            kill -9 $! 2>/dev/null || true
            wait $! 2>/dev/null || true
        done
        "$bench" "${options[@]}" --parts "$parts" --results-file "$work/results.jsonl" >/dev/null || [ $? = 1 ]
        merged "killed ten times" "$parts"
        lines=$(wc -l <"$work/results.jsonl") paths=$(cut -d'"' -f4 "$work/results.jsonl" | sort -u | wc -l)
        echo "results: $lines lines of $paths pictures"
        [ "$lines" = "$paths" ]
        ;;
    full)
        mkdir -p "$work/small"
        mount -t tmpfs -o size=64k tmpfs "$work/small"
        if "$bench" "${options[@]}" --parts "$work/small" --save-every 0 --results-file "$work/small/results.jsonl" >/dev/null 2>"$work/error"; then
            echo "a full disk went unnoticed" >&2
            exit 1
        fi
        grep "^error: .*can't be written: No space left" "$work/error"
        # What was written is whole, and another try on a larger disk goes on from there.
        python3 -c "import json,sys; r=json.load(open(sys.argv[1])); print('full disk: kept', r['pictures'], 'pictures of', r['data']['pictures'])" \
            "$work/small/part-00000-of-00001.json"
        mount -o remount,size=64m "$work/small"
        "$bench" "${options[@]}" --parts "$work/small" --results-file "$work/small/results.jsonl" >/dev/null || [ $? = 1 ]
        merged "after a full disk" "$work/small"
        ;;
    *)
        echo "no check is called $what: ${all[*]}" >&2
        exit 2
        ;;
    esac
done
