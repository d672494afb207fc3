#!/usr/bin/env bash
# Compares kv with etcd: three processes each on loopback, the same load, the same disk, one system at a time.
set -u

peer=etcd
clients=1,16,256,1024
connections=16
usage="usage: bench/etcd.sh [--seconds 5] [--warm-up 1] [--rounds 1] [--clients 1,16,256,1024] [--value-size 256]
                     [--connections 16] [--data DIR] [--only etcd|kv] [--json]
Installs etcd-server from Debian if etcd is missing. --data is a folder on the disk to measure (default: target/bench).
--json prints one JSON object instead of the table."

# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A fresh cluster of three, the load on its leader, and the end of the cluster.
peer_run() {
    local count=$1 dir=$temp/etcd.$1 ports id status=0 cluster='' endpoints=''
    say "etcd    $count"
    mkdir -p "$dir"
    read -r -a ports <<<"$("$tools/bench-report" --ports 6)"
    for id in 1 2 3; do
        cluster+=${cluster:+,}n$id=http://127.0.0.1:${ports[id + 2]}
        endpoints+=${endpoints:+,}127.0.0.1:${ports[id - 1]}
    done
    for id in 1 2 3; do
        start etcd --name "n$id" --data-dir "$dir/n$id" --logger zap --log-level warn \
            --listen-client-urls "http://127.0.0.1:${ports[id - 1]}" \
            --advertise-client-urls "http://127.0.0.1:${ports[id - 1]}" \
            --listen-peer-urls "http://127.0.0.1:${ports[id + 2]}" \
            --initial-advertise-peer-urls "http://127.0.0.1:${ports[id + 2]}" \
            --initial-cluster "$cluster" --initial-cluster-token "$temp" >"$dir/n$id.log" 2>&1
    done
    run "$tools/etcd-load" --endpoints "$endpoints" --clients "$count" --value-size "$value_size" \
        --seconds "$seconds" --warm-up "$warm_up" --connections "$connections" >>"$temp/etcd.jsonl" || status=$?
    if [ "$status" != 0 ]; then
        tail -n 5 "$dir"/n?.log >&2
        die "the load on etcd ended with status $status"
    fi
    stop_all
    rm -rf "$dir"
}

ours_run() { kv_run "$1"; }

parse_options "$@"
forget_environment
[ "$only" = kv ] || need etcd etcd-server
build_tools
[ "$only" = etcd ] || build_kv
make_temp
take_turns
report "puts of $value_size bytes, $(etcd --version 2>/dev/null | head -n 1 || printf 'no etcd'), $seconds s each, $rounds round(s)"
