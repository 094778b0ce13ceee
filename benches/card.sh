#!/usr/bin/env bash
# benches/card.sh [--only PART]... [--dry] [FOLDER]
#
# Checks and measures training on this machine's NVIDIA GPU in under 8 minutes, beside PyTorch, and writes what it found
# to FOLDER ($OUT, or card-results): table.md, which is printed, too; lines.tsv, what the table was made of; log.txt;
# device.json (`pipe device --json`); nvidia-smi.txt; card.json, the card as cuDNN describes it, for tests/cuda/cards.
#
# A part that fails or takes too long is noted in the table, and the next one runs; the exit code is 1 if one failed.
# Parts: environment, convolutions, parity, speed, profile, streaming, sanitizer, compile.
#
# CARD_EXE and PIPE_EXE name the benchmark's executable and `pipe`; without them they are built by cargo.
# PIPE_PEER_PYTHON (python3) has torch, torchvision and safetensors. CARD_SECONDS is the budget of all parts. Other
# settings: see benches/card/settings.rs. --dry makes everything tiny, for a driver without a card; PyTorch then runs on
# the CPU, and only where PIPE_PEER_PYTHON is set.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

only=() dry='' out=''
while (($#)); do
    case $1 in
        --only) only+=("${2:?a part}") && shift 2 ;;
        --dry) dry=1 && shift ;;
        -*) sed -n '2,/^set /p' "$0" | sed '/^set /d; s/^# \{0,1\}//' && exit 2 ;;
        *) out=$1 && shift ;;
    esac
done

if [ -n "$dry" ]; then
    : "${CARD_MODELS:=resnet18}" "${CARD_SIZE:=32}" "${CARD_BATCHES:=4}" "${CARD_STEPS:=2}" "${CARD_PARITY_BATCH:=4}"
    : "${CARD_CONVOLUTION_BATCH:=2}" "${CARD_STREAMING_BATCH:=4}" "${CARD_CACHE_GB:=0.00005}" "${CARD_PROFILE_BATCH:=2}"
    : "${CARD_TORCH_DEVICE:=cpu}" "${CARD_COMPILE_BATCHES:=4}" "${CARD_SECONDS:=1800}"
    export CARD_SIZE CARD_TORCH_DEVICE
fi
: "${CARD_MODELS:=resnet50 inception_v3 alexnet}" "${CARD_BATCHES:=32 128 256}" "${CARD_STEPS:=20}"
: "${CARD_PARITY_BATCH:=8}" "${CARD_CONVOLUTION_BATCH:=4}" "${CARD_STREAMING_BATCH:=256}" "${CARD_CACHE_GB:=4}"
: "${CARD_PROFILE_BATCH:=128}" "${CARD_COMPILE_BATCHES:=128}" "${CARD_SECONDS:=465}"
export CARD_MODELS CARD_BATCHES CARD_STEPS CARD_PARITY_BATCH CARD_CONVOLUTION_BATCH CARD_STREAMING_BATCH CARD_CACHE_GB
export CARD_PROFILE_BATCH

out=${out:-${OUT:-card-results}}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
lines=$out/lines.tsv log=$out/log.txt
: >"$lines"
: >"$log"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARD_WORK=$work/compiled

# The executables that are built are in cargo's messages.
build() {
    command -v cargo >/dev/null || { echo "set CARD_EXE and PIPE_EXE: there is no cargo to build them" >&2 && exit 1; }
    cargo bench --bench card --no-run --message-format=json >"$work/built" || exit 1
    executable() { sed -n "s|.*\"executable\":\"\([^\"]*/$1\)\".*|\1|p" "$work/built" | tail -n 1; }
    : "${CARD_EXE:=$(executable 'card-[0-9a-f]*')}" "${PIPE_EXE:=$(executable pipe)}"
}
[ -n "${CARD_EXE:-}" ] && [ -n "${PIPE_EXE:-}" ] || build
export PIPE_EXE
SECONDS=0

python=${PIPE_PEER_PYTHON:-}
# `pipe` looks for CUDA's libraries among the packages of `python3`.
[ -z "$python" ] || PATH=$(dirname "$python"):$PATH
if [ -z "$python" ] && [ -z "$dry" ]; then
    python=$(command -v python3 || true)
fi
if [ -n "$python" ] && ! "$python" -c 'import torch, torchvision, safetensors' 2>>"$log"; then
    echo "$python has no torch, torchvision or safetensors" >>"$log"
    python=''
fi

wanted() {
    [ "${#only[@]}" = 0 ] && return
    local part
    for part in "${only[@]}"; do
        [ "$part" = "${1%% *}" ] && return
    done
    return 1
}

verdict() {
    printf 'part\t%s\t%s\t%s\n' "$1" "$2" "$3" >>"$lines"
    printf '%4d s  %-32s %s\n' "$SECONDS" "$1" "$2" >&2
}

# part NAME SECONDS COMMAND...: runs a command in at most so many seconds, and in those that are left for all.
part() {
    local name=$1 seconds=$2 left=$((CARD_SECONDS - SECONDS)) begin=$SECONDS code
    shift 2
    wanted "$name" || return 0
    if ((left < 3)); then
        verdict "$name" "not run: no time left" 0
        return
    fi
    # Without a card the time says nothing, and the machine may be busy.
    [ -z "$dry" ] || seconds=600
    ((seconds < left)) || seconds=$left
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    timeout --kill-after=5 "$seconds" "$@" >"$work/printed" 2>>"$log"
    code=$?
    cat "$work/printed" >>"$log"
    grep $'\t' "$work/printed" >>"$lines"
    case $code in
        0) verdict "$name" "ran" $((SECONDS - begin)) ;;
        124 | 137) verdict "$name" "stopped after $seconds s" $((SECONDS - begin)) ;;
        *) verdict "$name" "failed with code $code; see log.txt" $((SECONDS - begin)) ;;
    esac
}

# The same for PyTorch, where it is there.
torch_part() {
    local name=$1 seconds=$2
    shift 2
    wanted "$name" || return 0
    if [ -z "$python" ]; then
        verdict "$name" "skipped: no PyTorch" 0
    else
        part "$name" "$seconds" "$python" benches/card/torch_card.py "$@"
    fi
}

sanitizer_part() {
    wanted sanitizer || return 0
    if ! command -v compute-sanitizer >/dev/null; then
        verdict "sanitizer $1" "skipped: compute-sanitizer isn't installed" 0
    else
        part "sanitizer $1" "$2" compute-sanitizer --tool "$1" --error-exitcode 9 "$CARD_EXE" small
    fi
}

if wanted environment; then
    timeout 20 "$PIPE_EXE" device --json >"$out/device.json" 2>>"$log"
    if command -v nvidia-smi >/dev/null; then
        timeout 20 nvidia-smi >"$out/nvidia-smi.txt" 2>>"$log"
    fi
fi
part environment 20 "$CARD_EXE" environment "$out/card.json"
part convolutions 80 "$CARD_EXE" convolutions
for model in $CARD_MODELS; do
    part "parity $model" 45 "$CARD_EXE" parity "$model" "$work/$model"
    torch_part "parity $model, PyTorch" 40 parity "$model" "$work/$model"
    rm -rf "${work:?}/$model"
done
# In turn, so that both run on an equally warm card.
for model in $CARD_MODELS; do
    part "speed $model" 60 "$CARD_EXE" speed "$model"
    torch_part "speed $model, PyTorch" 75 speed "$model"
done
part profile 30 "$CARD_EXE" profile
part streaming 90 "$CARD_EXE" streaming "$work/streaming"
sanitizer_part memcheck 45
sanitizer_part racecheck 45
[ -z "$dry" ] || part "sanitizer, without it" 45 "$CARD_EXE" small
# It compiles for most of its time: the first network and one batch only.
export CARD_BATCHES=$CARD_COMPILE_BATCHES
torch_part compile 90 compile "${CARD_MODELS%% *}"

awk -F '\t' -f benches/card/table.awk "$lines" | tee "$out/table.md"
! grep -q $'^part\t.*\tfailed' "$lines"
