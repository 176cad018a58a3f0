# What the scripts of this folder need from the machine: found, installed, or named. To be sourced.

wasm_tools=target/wasm-tools
# rustc's flags for a browser; more target features may follow. The same for all, so that builds share their parts.
wasm_flags='--cfg getrandom_backend="wasm_js" -C target-feature=+simd128'
export PATH="$PWD/$wasm_tools/bin:$PATH"

step() { printf '\n== %s\n' "$*"; }

# Fails with what to install.
missing() {
    echo "missing: $*. Install that and run this again." >&2
    exit 1
}

# Starts a command beside what follows. `joined` waits for it, shows what it wrote, and fails if it did; it ends with
# the script.
beside() {
    beside_log=$(mktemp)
    # A group of its own, so that its children end with it.
    set -m
    "$@" </dev/null >"$beside_log" 2>&1 &
    beside=$!
    set +m
    trap 'kill -- "-$beside" 2>/dev/null || true; rm -f "$beside_log"' EXIT
}

joined() {
    local status=0
    wait "$beside" || status=$?
    cat "$beside_log"
    return "$status"
}

# Pairs of a command that succeeds if something is there, and the Debian package that brings it.
need_packages() {
    local lacking=() sudo=()
    while [ $# -gt 0 ]; do
        eval "$1" >/dev/null 2>&1 || lacking+=("$2")
        shift 2
    done
    [ ${#lacking[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo -n); fi
    if command -v apt-get >/dev/null && { [ ${#sudo[@]} -eq 0 ] || "${sudo[@]}" true 2>/dev/null; }; then
        step "installing ${lacking[*]}"
        "${sudo[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${lacking[@]}"
    else
        missing "${lacking[*]} (Debian's names)"
    fi
}

need_rust() {
    command -v cargo >/dev/null || missing "Rust, by rustup (https://rustup.rs)"
}

need_node() {
    local version
    version=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
    # Debian's own is often older, so it is not installed here.
    [ "${version:-0}" -ge 20 ] || missing "Node.js 20 or newer with npm (https://nodejs.org; found: $(node --version 2>/dev/null || echo none))"
    command -v npm >/dev/null || missing "npm, which belongs to Node.js"
}

# A tool of the build, by cargo: name, version, options. Not optimised: compiling it takes longer than it ever runs.
install_tool() {
    CARGO_TARGET_DIR=$wasm_tools CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --root "$wasm_tools" "$1" --version "$2" "${@:3}"
}

# The target, and wasm-bindgen of the version that the lock file has of its crate: no other will do. The program that runs
# tests in a browser comes with it.
need_wasm_bindgen() {
    local version
    version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
    rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown
    # Without TLS: it talks to nobody but the driver of a browser on this machine.
    [ "$(wasm-bindgen --version 2>/dev/null)" = "wasm-bindgen $version" ] ||
        install_tool wasm-bindgen-cli "$version" --no-default-features
}

# The packages of www/package, if they are not those of its lock file.
need_npm_packages() {
    [ www/package/node_modules/.package-lock.json -nt www/package/package-lock.json ] ||
        npm ci --prefix www/package --no-audit --no-fund --loglevel=error
}
