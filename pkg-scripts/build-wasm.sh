#!/usr/bin/env bash
# Builds the three WebAssembly variants of the npm package into www/package/wasm, and says how large
# they are.
#
#   pkg-scripts/build-wasm.sh [webgpu] [cpu] [cpu-relaxed]     (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/wasm-tools
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

# The command has to be of the crate's version.
if [ "$("$tools/bin/wasm-bindgen" --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
    cargo install wasm-bindgen-cli --version "$version" --root "$tools"
fi
rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

# binaryen's optimiser takes a tenth off; npm brings a current one.
optimizer=$tools/node_modules/.bin/wasm-opt
if [ ! -x "$optimizer" ] && command -v npm >/dev/null; then
    npm install --silent --no-audit --no-fund --prefix "$tools" binaryen@132 || true
fi

build() { # variant, cargo feature, target features
    local out=www/package/wasm/$1
    echo "== $1"
    RUSTFLAGS="--cfg getrandom_backend=\"wasm_js\" -C target-feature=$3" \
        cargo build --locked --profile wasm --target wasm32-unknown-unknown --package aim-web \
        --no-default-features --features "$2"
    rm -rf "$out"
    "$tools/bin/wasm-bindgen" --target web --out-name aim_web --out-dir "$out" --no-typescript \
        target/wasm32-unknown-unknown/wasm/aim_web.wasm
    if [ -x "$optimizer" ]; then
        "$optimizer" -O3 --all-features --disable-custom-descriptors --strip-debug --strip-producers \
            "$out/aim_web_bg.wasm" -o "$out/aim_web_bg.wasm"
    else
        echo "without wasm-opt: install npm for a smaller file"
    fi
}

for variant in "${@:-webgpu cpu cpu-relaxed}"; do
    for name in $variant; do
        case $name in
            webgpu) build webgpu gpu +simd128 ;;
            cpu) build cpu cpu +simd128 ;;
            cpu-relaxed) build cpu-relaxed cpu +simd128,+relaxed-simd ;;
            *)
                echo "unknown variant $name: webgpu, cpu or cpu-relaxed" >&2
                exit 2
                ;;
        esac
    done
done

pkg-scripts/wasm-sizes.sh
