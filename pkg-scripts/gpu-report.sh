#!/usr/bin/env bash
# What a GPU makes of aim-web, in under six minutes once it is built: parity with the reference, the kernels' tests, the speed of
# every model that fits, and that of our own PyTorch implementation beside it.
#
#   pkg-scripts/gpu-report.sh prepare [KIT]     where Rust is: builds what runs there, into target/gpu-report/kit
#   pkg-scripts/gpu-report.sh run [KIT] [OUT]   where the GPU is: writes report.json, report.md and logs to OUT
#   pkg-scripts/gpu-report.sh                   both, on one machine
#
# The machine with the GPU needs this tree, KIT, its Vulkan driver and a glibc as new as that of the machine that built; no Rust, no
# network. The loader of Vulkan is carried. With a python3 that has PyTorch for the GPU, that is measured too.
#
# PROFILE=checks builds what the tests build anyway; FEATURES, DEVICES, MODELS, DTYPES, BATCHES and LIMIT (seconds) ask for
# something else.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
# Kernels in SPIR-V, and CUDA, whose libraries are looked for only where it is used. Empty: WGSL alone, as in a browser.
features=${FEATURES-vulkan,cuda}
models=${MODELS:-aim-600M,aim-7B,aim-1B,aim-3B}
dtypes=${DTYPES:-fp16,q4,q8}
batches=${BATCHES:-1,8,32}
limit=${LIMIT:-330}

# The path of each program that cargo has built, by its lines of JSON.
programs() {
    sed -n 's/.*"reason":"compiler-artifact".*"executable":"\([^"]*\)".*/\1/p'
}

# A program without its symbols, packed: what travels may be limited.
pack() { # program, packed file
    strip -o "$2.part" "$1"
    gzip -9 <"$2.part" >"$2"
    rm "$2.part"
}

prepare() {
    local kit=$1 with=() name
    # Those of the library, which the tests are of.
    [ -z "$features" ] || with=(--features "$(sed 's/\([^,]*\)/aim-web\/\1,native-bench\/\1/g' <<<"$features")")
    rm -rf "$kit"
    mkdir -p "$kit/tests" "$kit/lib"
    echo "== building, profile $profile"
    # As `cargo test` builds them, so that no dependency is built twice; the program comes with its own tests.
    cargo test --profile "$profile" --workspace --locked --lib --test model --test quant --test cli --no-run \
        "${with[@]}" --message-format=json-render-diagnostics | programs >"$kit/all"
    pack "$(grep '/aim-bench$' "$kit/all" | head -1)" "$kit/aim-bench.gz"
    for name in aim_web model quant; do
        pack "$(grep -E "/deps/$name-[0-9a-f]+\$" "$kit/all" | head -1)" "$kit/tests/$name.gz"
    done
    rm "$kit/all"
    # Of the loader there is one kind; the driver has to be the machine's own.
    local loader
    loader=$(ldconfig -p | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -1)
    [ -z "$loader" ] || cp -L "$loader" "$kit/lib/libvulkan.so.1"
    echo "$features" >"$kit/features"
    git rev-parse HEAD >"$kit/commit" 2>/dev/null || echo unknown >"$kit/commit"
    du -sh "$kit"
}

# What is left of the time.
left() { echo $((deadline - SECONDS)); }

# Runs a step with a limit of its own, and notes how it ended: name, most seconds, command.
results=()
step() {
    local name=$1 most=$2 start=$SECONDS status=0 now
    shift 2
    now=$(left)
    if [ "$now" -lt 5 ]; then
        echo "== $name: left out, the time is up"
        results+=("{\"step\": \"$name\", \"status\": \"left out\", \"seconds\": 0}")
        return
    fi
    [ "$now" -lt "$most" ] && most=$now
    echo "== $name (at most $most s)"
    timeout "$most" "$@" || status=$?
    case $status in
        0) status=passed ;;
        124) status="out of time" ;;
        *) status="failed ($status)" ;;
    esac
    echo "== $name: $status, $((SECONDS - start)) s"
    results+=("{\"step\": \"$name\", \"status\": \"$status\", \"seconds\": $((SECONDS - start))}")
}

# Standard output to a file, the rest to the log.
to_file() { local file=$1; shift; "$@" >"$file"; }
# The tests of a program that are about GPUs. One thread: several devices at once are not what is measured.
gpu_tests() { # name
    CARGO_MANIFEST_DIR=$PWD "$work/tests/$1" gpu --test-threads=1
}
# A file of JSON, or null where it is none.
json_or_null() { if [ -s "$1" ] && [ "$(tail -c 2 "$1" | tr -d '\n')" = "]" ]; then cat "$1"; else echo null; fi; }

run() {
    local kit out
    kit=$(realpath "$1")
    mkdir -p "$2"
    out=$(realpath "$2")
    SECONDS=0
    deadline=$limit
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/tests"
    local file program
    for file in "$kit"/aim-bench.gz "$kit"/tests/*.gz; do
        program=$work/${file#"$kit/"}
        gzip -dc "$file" >"${program%.gz}"
        chmod +x "${program%.gz}"
    done
    # The machine's own loader of Vulkan comes first; a driver may lie where none looks for it.
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || export LD_LIBRARY_PATH=$kit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    local nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
    if [ -e "$nvidia" ] && ! compgen -G '/usr/share/vulkan/icd.d/*nvidia*' >/dev/null && ! compgen -G '/etc/vulkan/icd.d/*nvidia*' >/dev/null; then
        export VK_DRIVER_FILES=${VK_DRIVER_FILES:-$nvidia}
    fi
    export -f gpu_tests to_file
    export work

    {
        uname -srm
        nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv 2>/dev/null || true
        step devices 20 "$work/aim-bench" devices
        step "devices as JSON" 20 bash -c "to_file '$out/devices.json' '$work/aim-bench' devices --json"
        for program in model quant aim_web; do
            step "tests: $program" 60 bash -c "gpu_tests $program"
        done
        # A combination may take half a minute after the last one has begun; PyTorch is left its share.
        local for_torch=0
        if command -v python3 >/dev/null && python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
            for_torch=80
        fi
        local for_bench=$(($(left) - for_torch)) devices=${DEVICES:-}
        if [ -z "$devices" ]; then
            devices=gpu
            # By both ways, where there are two.
            if [[ $(cat "$kit/features") == *cuda* ]] && [ -e /dev/nvidiactl ]; then devices=cuda,gpu; fi
        fi
        step bench "$for_bench" bash -c "to_file '$out/bench.json' '$work/aim-bench' bench --device $devices --synthetic $models \
            --dtype $dtypes --batch $batches --warmup 1 --seconds 1 --time-limit $((for_bench > 60 ? for_bench - 40 : for_bench / 2)) \
            --svg '$out/bench.svg' --markdown '$out/bench.md' --json"
        if [ "$for_torch" -gt 0 ]; then
            step PyTorch "$(left)" bash -c "to_file '$out/pytorch.json' python3 pkg-scripts/gpu-report/torch_bench.py --models $models \
                --dtypes fp16,bf16 --batch $batches --seconds 1 --until $(($(date +%s) + $(left) - 15)) --markdown '$out/pytorch.md'"
        fi
        write_report
    } 2>&1 | tee "$out/log.txt"
    ! grep -q '== tests.*: \(failed\|out of time\)\|== bench: failed' "$out/log.txt"
}

write_report() {
    local steps
    printf -v steps '    %s,\n' "${results[@]}"
    cat >"$out/report.json" <<JSON
{
  "date": "$(date -u +%FT%TZ)",
  "commit": "$(cat "$kit/commit")",
  "system": "$(uname -srm | tr -d '"\\')",
  "steps": [
${steps%,?}
  ],
  "devices": $(json_or_null "$out/devices.json"),
  "bench": $(json_or_null "$out/bench.json"),
  "pytorch": $(json_or_null "$out/pytorch.json")
}
JSON
    {
        echo "# GPU report, $(date -u +%F)"
        echo
        echo "Commit $(cat "$kit/commit"), $(uname -srm), in $SECONDS s."
        echo
        "$work/aim-bench" devices 2>/dev/null | sed 's/^/    /'
        echo
        printf '%s\n' "${results[@]}" | sed 's/{"step": "\(.*\)", "status": "\(.*\)", "seconds": \(.*\)}/- \1: \2, \3 s/'
        for file in bench pytorch; do
            [ -s "$out/$file.md" ] || continue
            echo
            cat "$out/$file.md"
        done
    } >"$out/report.md"
    echo "== $out/report.md and report.json, after $SECONDS s"
}

kit=target/gpu-report/kit
case ${1:-both} in
    prepare) prepare "${2:-$kit}" ;;
    run) run "${2:-$kit}" "${3:-target/gpu-report/out}" ;;
    both)
        prepare "$kit"
        run "$kit" target/gpu-report/out
        ;;
    *)
        sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
