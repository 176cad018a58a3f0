#!/usr/bin/env bash
# The sizes of the built variants, in bytes; fails over the budget. That of the JavaScript is checked by the tests
# of the package.
set -euo pipefail
cd "$(dirname "$0")/../www/package/wasm"

budget() { # bytes, gzip
    case $1 in
        webgpu) echo 1000000 ;;
        pictures) echo 250000 ;;
        *) echo 800000 ;;
    esac
}

brotli() { # Node.js brings it
    node -e 'process.stdout.write(String(require("node:zlib").brotliCompressSync(require("node:fs").readFileSync(process.argv[1])).length))' "$1" 2>/dev/null || echo -
}

status=0
printf '%-12s %9s %9s %9s %9s\n' variant raw gzip budget brotli
for file in */aim_web_bg.wasm; do
    variant=${file%%/*}
    compressed=$(gzip -9 -c "$file" | wc -c)
    most=$(budget "$variant")
    printf '%-12s %9d %9d %9d %9s\n' "$variant" "$(stat -c %s "$file")" "$compressed" "$most" "$(brotli "$file")"
    if [ "$compressed" -gt "$most" ]; then status=1; fi
done
exit "$status"
