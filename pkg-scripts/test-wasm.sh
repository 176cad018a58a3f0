#!/usr/bin/env bash
# The model and the picture code in a browser, against the goldens: on the CPU with SIMD, and on WebGPU, on a
# software adapter (webdriver.json).
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

need_rust
need_packages "command -v chromium || command -v google-chrome" chromium "command -v chromedriver" chromium-driver
need_wasm_bindgen

# A model of the goldens takes a software adapter some seconds.
export WASM_BINDGEN_TEST_TIMEOUT=600
export CHROMEDRIVER WASM_BINDGEN_TEST_WEBDRIVER_JSON=$PWD/webdriver.json
CHROMEDRIVER=$(command -v chromedriver)
# Profiles and features are those of the builds for the package, so that the dependencies are built once for both.
test_on() { # feature, profile
    RUSTFLAGS=$wasm_flags CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
        cargo test --locked --package browser-tests --target wasm32-unknown-unknown --features "$1" --profile "$2"
}
test_on cpu wasm
test_on gpu wasm-webgpu
