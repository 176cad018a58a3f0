#!/usr/bin/env bash
# Every check of the project: format, lints, documentation, tests.
#
# Needs rustup. What else is missing it installs where it may (Debian or Ubuntu, as root or with
# sudo that asks nothing), else it says what to install and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

# A command, and the Debian package that brings it.
install_missing() {
    local missing=() command package
    while [ $# -gt 0 ]; do
        command=$1 package=$2
        shift 2
        if ! eval "$command" >/dev/null 2>&1; then missing+=("$package"); fi
    done
    [ ${#missing[@]} -eq 0 ] && return
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo -n); fi
    if command -v apt-get >/dev/null && { [ ${#sudo[@]} -eq 0 ] || "${sudo[@]}" true 2>/dev/null; }; then
        step "installing ${missing[*]}"
        "${sudo[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing: ${missing[*]} (Debian's names). Install them and run this again." >&2
        exit 1
    fi
}

command -v cargo >/dev/null || {
    echo "missing: Rust. Install rustup (https://rustup.rs) and run this again." >&2
    exit 1
}

step "what the tests need"
# A linker, and a Vulkan driver for the GPU tests: a software one where there is no GPU.
install_missing \
    "command -v cc" gcc \
    "compgen -G '/usr/share/vulkan/icd.d/*.json' || compgen -G '/etc/vulkan/icd.d/*.json'" mesa-vulkan-drivers \
    "ldconfig -p | grep libvulkan.so.1" libvulkan1

# One profile for all of it: a second build of burn costs minutes.
step "format"
cargo fmt --all --check
step "lints"
cargo clippy --release --workspace --all-targets --locked -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked
step "tests"
cargo test --release --workspace --locked
if command -v cargo-deny >/dev/null; then
    step "licences and advisories"
    cargo deny check
fi
