#!/usr/bin/env bash
# Compares our library with the C library libraft: three processes each on loopback, the load inside the leader's
# process, the same disk, one system at a time.
set -u

peer=libraft
clients=1,64,256,1024
usage="usage: bench/libraft.sh [--seconds 5] [--warm-up 1] [--rounds 1] [--clients 1,64,256,1024] [--value-size 256]
                        [--data DIR] [--only libraft|kv] [--json]
Installs libraft-dev, libuv1-dev and gcc from Debian if missing. --clients are proposals outstanding. --data is a folder
on the disk to measure (default: target/bench). --json prints one JSON object instead of the table."

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

build_peer() {
    need gcc gcc libc6-dev
    need /usr/include/uv.h libuv1-dev
    need /usr/include/raft/uv.h libraft-dev
    gcc -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
        "$bench/libraft/bench.c" -o "$tools/libraft-bench" -lraft -luv || die "the program for libraft does not build"
}

# Twice: one raft_apply for each entry, and one for all entries that are ready in a turn of the event loop.
peer_run() {
    libraft_run libraft "$1" --each
    sync
    libraft_run libraft-batched "$1"
}

libraft_run() {
    local name=$1 count=$2 dir=$temp/$1.$2 ports status=0
    shift 2
    say "$name $count"
    mkdir -p "$dir"
    ports=$("$tools/bench-report" --ports 3)
    run "$tools/libraft-bench" --dir "$dir" --ports "${ports// /,}" --outstanding "$count" \
        --entry-size "$value_size" --seconds "$seconds" --warm-up "$warm_up" "$@" >>"$temp/$name.jsonl" || status=$?
    [ "$status" = 0 ] || die "the load on libraft ended with status $status"
    rm -rf "$dir"
}

ours_run() { kv_run "$1" --embedded; }

parse_options "$@"
forget_environment
build_tools
[ "$only" = kv ] || build_peer
[ "$only" = libraft ] || build_kv
make_temp
take_turns
version=$(dpkg-query -W -f '${Version}' libraft-dev 2>/dev/null)
report "entries of $value_size bytes, libraft ${version:-(version unknown)}, $seconds s each, $rounds round(s)"
