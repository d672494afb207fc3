#!/usr/bin/env bash
# Runs all fuzz targets, two at a time, and says what came of it.
#
#     fuzz/run.sh --executions 10000000      # so many over all targets, fast ones more than slow ones
#     fuzz/run.sh --minutes 60               # for so long, equal parts for all
#     fuzz/run.sh --minutes 5 step http      # these alone
#     fuzz/run.sh --replay step FILE         # one input again
#
# Needs a stable compiler, and g++ for libFuzzer itself. No sanitizer is used: all crates here forbid unsafe code, so
# there is nothing for one to find, and inputs run several times faster.
#
# What is found stays in a temporary folder and is dropped, unless --keep puts into fuzz/corpus what covers more than what
# is there. An input that fails is kept in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"

# Of each target: its share of the executions, of 100,000; and the longest input, in bytes.
targets=(
    "simulation      10    64"
    "http           180  4096"
    "wal_recovery   600  2048"
    "snapshot      1000  2048"
    "replica       2500  2048"
    "sessions      1200  2048"
    "step          3500  4096"
    "identity      2500   512"
    "frames        4000  2048"
    "records      30000  1024"
    "message      54510  1024"
)

usage() { sed -n '4,7s/^# *//p' run.sh >&2; exit 2; }

mode='' amount=0 keep='' wanted=()
while [ $# -gt 0 ]; do
    case "$1" in
        --executions | --minutes) mode=$1 amount=${2:-}; shift ;;
        --replay) mode=$1 wanted=("${2:-}" "${3:-}"); shift 2 ;;
        --keep) keep=yes ;;
        -*) usage ;;
        *) wanted+=("$1") ;;
    esac
    shift
done
[ -n "$mode" ] || usage
[[ $mode == --replay || $amount =~ ^[1-9][0-9]*$ ]] || usage

if ! command -v c++ > /dev/null && ! command -v g++ > /dev/null; then
    echo "libFuzzer is written in C++: install g++ first" >&2
    exit 2
fi

# As `cargo fuzz` would, but for the sanitizer, and so with a stable compiler.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS="--cfg fuzzing -Cdebug-assertions $coverage"
cargo build --locked --release --bins --target "$host"
programs=target/$host/release

if [ "$mode" = --replay ]; then
    [ -x "$programs/${wanted[0]}" ] || usage
    cd "$OLDPWD" # The file is named from where the caller is.
    exec "$OLDPWD/$programs/${wanted[0]}" "${wanted[1]}"
fi

work=$(mktemp -d)
trap 'kill $(jobs -rp) 2> /dev/null || true; rm -rf "$work"' EXIT
chosen=()
for line in "${targets[@]}"; do
    read -r target _ <<< "$line"
    if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $target "* ]]; then chosen+=("$line"); fi
done
[ ${#chosen[@]} -gt 0 ] || usage
shares=0
for line in "${chosen[@]}"; do
    read -r _ share _ <<< "$line"
    shares=$((shares + share))
done

# One target, to its end; its exit code is left beside its log.
fuzz() {
    local target=$1 share=$2 length=$3 limit
    if [ "$mode" = --executions ]; then
        limit=-runs=$((amount * share / shares + 1))
    else
        # Two run at a time; an odd one out has the time of two.
        limit=-max_total_time=$((amount * 60 / ((${#chosen[@]} + 1) / 2)))
    fi
    mkdir -p "$work/$target" "artifacts/$target" "corpus/$target"
    local code=0
    "$programs/$target" "$limit" -max_len="$length" -rss_limit_mb=256 -timeout=60 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "$work/$target" "corpus/$target" > "$work/$target.log" 2>&1 || code=$?
    echo "$code" > "$work/$target.code"
    echo "$target has ended ($SECONDS s)"
}

for line in "${chosen[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
    # shellcheck disable=SC2086 # these are three words
    fuzz $line &
done
wait

stat() { sed -n "s/^stat::$1: *//p" "$work/$2.log" | tail -1; }
number() { echo "${1:-0}"; }

failed=0 executions=0 finds=0
printf '\n%-14s %12s %9s %7s %7s %6s %9s\n' target executions exec/s cov ft new 'peak MiB'
for line in "${chosen[@]}"; do
    read -r target _ <<< "$line"
    units=$(number "$(stat number_of_executed_units "$target")") rate=$(number "$(stat average_exec_per_sec "$target")")
    peak=$(number "$(stat peak_rss_mb "$target")") new=$(find "$work/$target" -type f | wc -l)
    covered=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$work/$target.log" | tail -1)
    read -r _ cov _ ft <<< "${covered:-cov: 0 ft: 0}"
    printf '%-14s %12s %9s %7s %7s %6s %9s' "$target" "$units" "$rate" "$cov" "$ft" "$new" "$peak"
    executions=$((executions + units)) finds=$((finds + new))
    if [ "$(cat "$work/$target.code")" = 0 ]; then echo; else
        echo '  FAILED'
        failed=$((failed + 1))
    fi
done
printf '%-14s %12s %9s %7s %7s %6s  in %s s\n' total "$executions" '' '' '' "$finds" "$SECONDS"

for line in "${chosen[@]}"; do
    read -r target _ <<< "$line"
    [ "$(cat "$work/$target.code")" != 0 ] || continue
    printf '\n== %s failed; the end of what it said:\n' "$target"
    grep -v -e '^#[0-9]' -e '^stat::' "$work/$target.log" | tail -40
    artifact=$(sed -n 's/.*Test unit written to \(artifacts.*\)$/\1/p' "$work/$target.log" | tail -1)
    if [ -n "$artifact" ]; then
        echo "the input: fuzz/$artifact"
        echo "again:     fuzz/run.sh --replay $target fuzz/$artifact"
    fi
done
rmdir artifacts/* artifacts 2> /dev/null || true

if [ -n "$keep" ]; then
    for line in "${chosen[@]}"; do
        read -r target _ length <<< "$line"
        # By the code that is reached alone, and not by how often: so a corpus stays small.
        "$programs/$target" -set_cover_merge=1 -use_counters=0 -max_len="$length" "corpus/$target" "$work/$target" > /dev/null 2>&1
        echo "fuzz/corpus/$target: $(find "corpus/$target" -type f | wc -l) inputs"
    done
fi
[ "$failed" = 0 ]
