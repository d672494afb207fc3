#!/usr/bin/env bash
# Counts the instructions that raft-core needs for an entry, of the working tree and of an earlier revision, in one run.
# Instructions are the same on a busy machine and an idle one, so a change of some percent shows.
set -euo pipefail

usage="usage: bench/instructions.sh [BASE] [--most PERCENT]

Builds the harness of bench/cores.sh twice, with raft-core as it is in the working tree and as it was at BASE (default:
HEAD~1), runs both under cachegrind, and prints the instructions per entry of each point and their ratio. What a start
costs drops out: each point is run with two numbers of entries, and the difference counts.

  --most PERCENT   how much more than BASE a point may need before the command fails (default 3)

Needs valgrind (installed from Debian if it is missing and the user is root)."

base=HEAD~1
most=3
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) printf '%s\n' "$usage"; exit 0 ;;
        --most)
            [[ ${2-} =~ ^[0-9]+(\.[0-9]+)?$ ]] || { printf '%s\n' "$usage" >&2; exit 2; }
            most=$2
            shift
            ;;
        -*) printf '%s\n' "$usage" >&2; exit 2 ;;
        *) base=$1 ;;
    esac
    shift
done

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$bench")
base=$(git -C "$repo" rev-parse --verify --quiet "$base^{commit}") || { echo "instructions.sh: $base is not a revision" >&2; exit 2; }
if ! command -v valgrind > /dev/null; then
    [ "$(id -u)" = 0 ] || { echo "instructions.sh: valgrind is missing; install Debian's package of that name" >&2; exit 1; }
    apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind > /dev/null
fi

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
export CARGO_TARGET_DIR=$repo/target/instructions CARGO_TERM_COLOR=never

# The harness is the working tree's on both sides, so that only the core differs; how it drives raft-core
# (systems/raft_core.rs) belongs to each side's API.
mkdir "$temp/base"
git -C "$repo" archive "$base" | tar -x -C "$temp/base"
cp "$bench/cores/src/"*.rs "$temp/base/bench/cores/src/"
build() {
    cargo build --quiet --release --locked --manifest-path "$1/bench/Cargo.toml" --package bench-cores
    cp "$CARGO_TARGET_DIR/release/bench-cores" "$2"
}
build "$temp/base" "$temp/before"
build "$repo" "$temp/after"

# count PROGRAM SYSTEM ENTRY_BYTES IN_FLIGHT ENTRIES: all instructions of one run.
count() {
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file="$temp/out" --log-file="$temp/log" \
        "$1" --only "$2" --entry-bytes "$3" --in-flight "$4" --entries "$5" > /dev/null
    sed -n 's/^summary: //p' "$temp/out"
}

few=4096
many=20480
echo "| system | entry | in flight | before, instructions/entry | now | ratio |"
echo "|---|--:|--:|--:|--:|--:|"
for system in raft-core raft-core-encoded; do
    for point in "16 1" "16 64" "16 1024" "256 1" "256 64" "256 1024" "4096 1" "4096 64"; do
        read -r bytes in_flight <<< "$point"
        counts=()
        for side in before after; do
            for entries in $few $many; do
                counts+=("$(count "$temp/$side" "$system" "$bytes" "$in_flight" "$entries")")
            done
        done
        awk -v a="${counts[0]}" -v b="${counts[1]}" -v c="${counts[2]}" -v d="${counts[3]}" -v n=$((many - few)) \
            -v row="| $system | $bytes B | $in_flight |" -v ratios="$temp/ratios" 'BEGIN {
                before = (b - a) / n; now = (d - c) / n
                printf "%s %.1f | %.1f | %.3f |\n", row, before, now, now / before
                printf "%.6f\n", now / before >> ratios
            }'
    done
done
sort -n "$temp/ratios" | tail -1 | awk -v most="$most" '{
    printf "\nthe most at any point: %+.2f %% (%s %% may be)\n", ($1 - 1) * 100, most
    exit $1 > 1 + most / 100
}'
