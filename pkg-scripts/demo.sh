#!/usr/bin/env bash
# Names a photograph, then serves the demo page: pkg-scripts/demo.sh [PORT]
#
# The CPU build comes first, and with it the page; the WebGPU build follows while the page is up.
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh
port=${1:-8080}

need_rust
need_node
need_packages "command -v cc" gcc
step "the tools of the build"
need_npm_packages
need_wasm_bindgen

step "the model for the CPU, as WebAssembly: some minutes the first time"
pkg-scripts/build-wasm.sh cpu
npm run --silent --prefix www/package build

step "a photograph: tests/photos/5/signer017-1296.jpg"
node www/package/examples/node/classify.mjs tests/photos/5/signer017-1296.jpg

step "the page"
node www/demo/build.mjs --serve "$port" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
sleep 1
kill -0 "$server" 2>/dev/null || exit 1

if [ ! -e www/package/wasm/cpu-threads/aim_web_bg.wasm ]; then
    step "the builds for WebGPU, for relaxed SIMD and for threads; the page works meanwhile, on the CPU"
    pkg-scripts/build-wasm.sh webgpu cpu-relaxed cpu-threads
    node www/demo/build.mjs
fi
step "all is built: reload http://localhost:$port/ (Ctrl-C ends it)"
wait "$server"
