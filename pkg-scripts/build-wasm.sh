#!/usr/bin/env bash
# Builds the WebAssembly variants of the npm package into www/package/wasm, and says how large
# they are.
#
#   pkg-scripts/build-wasm.sh [webgpu] [cpu] [cpu-relaxed] [cpu-threads] [pictures]     (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

need_rust
need_wasm_bindgen

build() { # variant, profile, cargo features, target features; options of cargo, after -- those of rustc for aim-web alone
    local out=www/package/wasm/$1 artifact=target/wasm32-unknown-unknown/$2/aim_web.wasm
    step "$1"
    RUSTFLAGS="$wasm_flags$4 ${linking:-}" \
        cargo rustc --locked --profile "$2" --target wasm32-unknown-unknown --package aim-web --lib \
        --no-default-features --features "$3" "${@:5}"
    if [ "$out/aim_web_bg.wasm" -nt "$artifact" ]; then return; fi
    rm -rf "$out" "$out.new"
    # No wasm-opt after it: measured, binaryen's output is no faster and compresses worse.
    wasm-bindgen --target web --out-name aim_web --out-dir "$out.new" --no-typescript \
        --remove-name-section --remove-producers-section "$artifact"
    mv "$out.new" "$out"
}

# Threads need a standard library that shares its memory. Only an unstable option builds one; the same compiler
# as for the rest is let use it, so that no second one is needed.
build_threads() {
    rustup component add rust-src >/dev/null 2>&1 || missing "the component rust-src of Rust (rustup component add rust-src)"
    local linking="-C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=$((2 << 30))" symbol
    for symbol in __wasm_init_tls __tls_size __tls_align __tls_base; do
        linking+=" -C link-arg=--export=$symbol"
    done
    export RUSTC_BOOTSTRAP=1
    build cpu-threads wasm-threads cpu,threads,relaxed-simd ,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals \
        -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size
    unset RUSTC_BOOTSTRAP
}

build_variant() {
    case $1 in
        webgpu) build webgpu wasm-webgpu gpu "" ;;
        cpu) build cpu wasm cpu "" ;;
        # Our own products are all that uses it, so that the dependencies are those of `cpu`.
        cpu-relaxed) build cpu-relaxed wasm cpu,relaxed-simd "" -- -C target-feature=+relaxed-simd ;;
        cpu-threads) build_threads ;;
        # No model is reached from what it exports, so none is in it.
        pictures) build pictures wasm cpu,pictures "" ;;
        *)
            echo "unknown variant $1: webgpu, cpu, cpu-relaxed, cpu-threads or pictures" >&2
            exit 2
            ;;
    esac
}

build_variants() {
    local variant
    for variant in "$@"; do build_variant "$variant"; done
}

# Those that share their dependencies, and beside them those that share nothing: of one profile cargo builds one at a time.
# A build ends on one core, and so do large parts of it.
sharing=() apart=()
for variant in ${*:-webgpu cpu cpu-relaxed cpu-threads pictures}; do
    case $variant in
        webgpu | cpu-threads) apart+=("$variant") ;;
        *) sharing+=("$variant") ;;
    esac
done
if [ ${#apart[@]} -gt 0 ]; then beside build_variants "${apart[@]}"; fi
build_variants "${sharing[@]}"
if [ ${#apart[@]} -gt 0 ]; then joined; fi

pkg-scripts/wasm-sizes.sh
