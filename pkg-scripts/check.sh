#!/usr/bin/env bash
# Every check of the project: format, lints, documentation, tests, natively and in a browser.
#
# Needs rustup, Node.js 20 or newer, and a network. What else is missing it installs where it may (Debian or
# Ubuntu, as root or with sudo that asks nothing), else it says what to install and stops.
set -euo pipefail
cd "$(dirname "$0")/.."
. pkg-scripts/tools.sh

# Says what a step took: the whole has to stay below 45 minutes on two cores.
timed() {
    local TIMEFORMAT="-- $1: %0R s, %0U s of the processor"
    step "$1"
    time "${@:2}"
}

need_rust
need_node
# Linkers; a Vulkan driver for the GPU tests, a software one where there is no GPU; a browser.
timed "what the tests need" need_packages \
    "command -v cc" gcc \
    "command -v c++" g++ \
    "compgen -G '/usr/share/vulkan/icd.d/*.json' || compgen -G '/etc/vulkan/icd.d/*.json'" mesa-vulkan-drivers \
    "ldconfig -p | grep libvulkan.so.1" libvulkan1 \
    "command -v chromium || command -v google-chrome" chromium \
    "command -v chromedriver" chromium-driver

# One profile for all of the native part: a second build of burn costs minutes. The tests of the package use its
# programs.
export AIM_BENCH=$PWD/target/checks/aim-bench AIM_HUB=$PWD/target/checks/examples/hub

timed "format" cargo fmt --all --check

# All that is built for a browser, beside what is built natively: much of either keeps one core waiting.
browser_builds() {
    timed "tools of the browser part" need_wasm_bindgen
    timed "packages of npm" need_npm_packages
    timed "builds for the browser, and their sizes" pkg-scripts/build-wasm.sh
}
beside browser_builds

timed "lints" cargo clippy --profile checks --workspace --all-targets --locked -- -D warnings
# A workspace of its own, which nobody would see break.
timed "lints of the fuzz targets" \
    cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --no-default-features --locked -- -D warnings
# With the examples, whose dependencies have the features that the lints checked them with.
RUSTDOCFLAGS="-D warnings" timed "documentation" \
    cargo doc --profile checks --workspace --no-deps --locked --lib --bins --examples
timed "builds of the tests" cargo test --profile checks --workspace --locked --no-run
timed "the rest of what is built for the browser" joined
timed "tests" cargo test --profile checks --workspace --locked
if command -v cargo-deny >/dev/null; then
    timed "licences and advisories" cargo deny check
fi

timed "tests in a browser: model and pictures" pkg-scripts/test-wasm.sh
timed "tests of the npm package and the page" npm test --silent --prefix www/package
printf '\n== all is well, after %d s\n' "$SECONDS"
