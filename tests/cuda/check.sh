#!/bin/sh
# Checks src/cuda/kernels.cu without a card: builds it for the CPU, plain and with AddressSanitizer and UBSan, and runs
# check.py on both. Usage: tests/cuda/check.sh [PYTHON with numpy]. Needs a C++ compiler; skipped where there is none.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
compiler=${CXX:-c++}
if ! command -v "$compiler" >/dev/null; then
    echo "skipped: no C++ compiler ($compiler)"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flags="-std=c++17 -g1 -fPIC -shared -fno-strict-aliasing -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas"
flags="$flags -Wno-unused-but-set-variable"
"$compiler" $flags -O2 "$here/kernels_host.cpp" -o "$folder/plain.so"
"$python" "$here/check.py" "$folder/plain.so"
"$compiler" $flags -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined "$here/kernels_host.cpp" \
    -o "$folder/sanitized.so"
LD_PRELOAD=$("$compiler" -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
    "$python" "$here/check.py" "$folder/sanitized.so"
