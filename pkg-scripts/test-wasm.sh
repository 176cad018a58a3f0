#!/usr/bin/env bash
# The model and the picture code in a browser, against the goldens: on the CPU with SIMD, and on WebGPU, on a
# software adapter (webdriver.json).
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

need_rust
need_packages "command -v chromium || command -v google-chrome" chromium "command -v chromedriver" chromium-driver
need_wasm_bindgen
need_wasm_pack

# A model of the goldens takes a software adapter some seconds.
export WASM_BINDGEN_TEST_TIMEOUT=600
# Where wasm-pack looks for webdriver.json.
export WASM_BINDGEN_TEST_WEBDRIVER_JSON=$PWD/webdriver.json
# These models are small: less optimising halves the build.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
RUSTFLAGS='--cfg getrandom_backend="wasm_js" -C target-feature=+simd128' \
    wasm-pack --log-level warn test --headless --chrome --chromedriver "$(command -v chromedriver)" --mode no-install --release \
    tests/browser --locked --features browser
