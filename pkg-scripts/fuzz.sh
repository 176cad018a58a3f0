#!/usr/bin/env bash
# Fuzzes whatever reads files and answers of others, on one core.
#
#     pkg-scripts/fuzz.sh [SECONDS] [TARGET…]
#
# Each target runs for SECONDS (60 without it), from the corpus that it left last time in fuzz/corpus. An input that
# breaks something is kept in fuzz/artifacts. Needs rustup, a C++ compiler and Python. See docs/fuzzing.md.
#
# AIM_FUZZ_CORPUS: another folder for the corpus. AIM_FUZZ_SANITIZER=address: with AddressSanitizer, several times slower.
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

need_rust
seconds=${1:-60}
shift || true
targets=("$@")
builds=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    builds=("")
    mapfile -t targets < <(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
fi
corpus=${AIM_FUZZ_CORPUS:-fuzz/corpus}
sanitizer=${AIM_FUZZ_SANITIZER:-none}
# One with a sanitizer would be built in the other's place.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/fuzz/target}
[ "$sanitizer" = none ] || CARGO_TARGET_DIR+=/$sanitizer
programs=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release
# The allocator of the targets fails at 160 MB; the rest is libFuzzer's. AddressSanitizer's own memory is not counted.
memory=256
[ "$sanitizer" = none ] || memory=2048

need_packages "command -v c++" g++ "command -v python3" python3-minimal
rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
python3 fuzz/seeds.py "$corpus"
for target in "${builds[@]}"; do
    cargo +nightly fuzz build --sanitizer "$sanitizer" --release --codegen-units 16 ${target:+"$target"}
done

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
printf '\n%-12s %12s %10s %7s %6s\n' target executions 'a second' corpus found
found=0
for target in "${targets[@]}"; do
    artifacts=fuzz/artifacts/$target
    mkdir -p "$artifacts"
    log=$logs/$target
    most=12288
    [ "$target" != mlx ] || most=20480
    "$programs/$target" "$corpus/$target" -artifact_prefix="$artifacts/" -max_total_time="$seconds" -max_len=$most \
        -rss_limit_mb=$memory -timeout=10 -report_slow_units=10 -print_final_stats=1 2>"$log" || true
    number() { sed -n "s/^stat::$1: *//p" "$log"; }
    count=$(find "$artifacts" -type f | wc -l)
    found=$((found + count))
    printf '%-12s %12s %10s %7s %6s\n' "$target" "$(number number_of_executed_units)" \
        "$(number average_exec_per_sec)" "$(find "$corpus/$target" -type f | wc -l)" "$count"
    [ "$count" -eq 0 ] || grep -m 3 -A 1 -E 'panicked at|ERROR|allocation of' "$log" | cut -c 1-300 || true
done
[ "$found" -eq 0 ]
