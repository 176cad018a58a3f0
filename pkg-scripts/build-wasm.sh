#!/usr/bin/env bash
# Builds the three WebAssembly variants of the npm package into www/package/wasm, and says how large
# they are.
#
#   pkg-scripts/build-wasm.sh [webgpu] [cpu] [cpu-relaxed]     (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

need_rust
need_wasm_bindgen

# binaryen's optimiser takes a tenth off; npm brings a current one.
optimizer=$wasm_tools/node_modules/.bin/wasm-opt
if [ ! -x "$optimizer" ] && command -v npm >/dev/null; then
    npm install --silent --no-audit --no-fund --prefix "$wasm_tools" binaryen@132 || true
fi

build() { # variant, profile, cargo feature, target features, level of wasm-opt
    local out=www/package/wasm/$1 artifact=target/wasm32-unknown-unknown/$2/aim_web.wasm
    step "$1"
    RUSTFLAGS="--cfg getrandom_backend=\"wasm_js\" -C target-feature=$4" \
        cargo build --locked --profile "$2" --target wasm32-unknown-unknown --package aim-web \
        --no-default-features --features "$3"
    if [ "$out/aim_web_bg.wasm" -nt "$artifact" ]; then return; fi
    rm -rf "$out" "$out.new"
    wasm-bindgen --target web --out-name aim_web --out-dir "$out.new" --no-typescript \
        --remove-name-section --remove-producers-section "$artifact"
    if [ -x "$optimizer" ]; then
        # Only what browsers have today: binaryen would also write what none of them reads yet.
        "$optimizer" "$5" --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int \
            --enable-reference-types --enable-sign-ext --enable-simd --enable-relaxed-simd \
            "$out.new/aim_web_bg.wasm" -o "$out.new/aim_web_bg.wasm"
    else
        echo "without wasm-opt: install npm for a smaller file"
    fi
    mv "$out.new" "$out"
}

for variant in "${@:-webgpu cpu cpu-relaxed}"; do
    for name in $variant; do
        case $name in
            webgpu) build webgpu wasm-webgpu gpu +simd128 -Oz ;;
            cpu) build cpu wasm cpu +simd128 -O2 ;;
            cpu-relaxed) build cpu-relaxed wasm cpu +simd128,+relaxed-simd -O2 ;;
            *)
                echo "unknown variant $name: webgpu, cpu or cpu-relaxed" >&2
                exit 2
                ;;
        esac
    done
done

pkg-scripts/wasm-sizes.sh
