#!/usr/bin/env bash
# The sizes of the built variants; fails over the budget.
set -euo pipefail
cd "$(dirname "$0")/../www/package/wasm"

budget() { # KiB, gzip
    case $1 in
        webgpu) echo 1434 ;;
        *) echo 819 ;;
    esac
}

status=0
printf '%-12s %9s %9s %9s\n' variant raw gzip budget
for file in */aim_web_bg.wasm; do
    variant=${file%%/*}
    raw=$(($(stat -c %s "$file") / 1024))
    compressed=$(($(gzip -9 -c "$file" | wc -c) / 1024))
    most=$(budget "$variant")
    printf '%-12s %5d KiB %5d KiB %5d KiB\n' "$variant" "$raw" "$compressed" "$most"
    [ "$compressed" -le "$most" ] || status=1
done
exit "$status"
