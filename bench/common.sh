# shellcheck shell=bash
# What the comparisons share: options, a data folder on a real disk, processes that never outlive the script.
# Sourced by etcd.sh and libraft.sh, which set `peer`, `clients` and `usage` first.
# shellcheck disable=SC2154,SC2034  # These are set, or used, by the scripts that source this one.

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$bench")

seconds=5
warm_up=1
rounds=1
value_size=256
only=
json=no
data=$repo/target/bench
running=()
temp=

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

usage_error() {
    say "$(basename "$0"): $*"
    say "$usage"
    exit 2
}

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --json) json=yes; shift; continue ;;
            -h | --help) printf '%s\n' "$usage"; exit 0 ;;
            --connections) [ "$peer" = etcd ] || usage_error "unknown option $1" ;;
            --seconds | --warm-up | --rounds | --value-size | --clients | --only | --data) ;;
            *) usage_error "unknown option $1" ;;
        esac
        [ $# -ge 2 ] || usage_error "$1 needs a value"
        case $1 in
            --seconds) seconds=$2 ;;
            --warm-up) warm_up=$2 ;;
            --rounds) rounds=$2 ;;
            --value-size) value_size=$2 ;;
            --clients) clients=$2 ;;
            --connections) connections=$2 ;;
            --only) only=$2 ;;
            --data) data=$2 ;;
        esac
        shift 2
    done
    [[ $seconds$rounds$value_size =~ ^[0-9]+$ && $seconds -gt 0 && $rounds -gt 0 ]] ||
        usage_error "--seconds, --rounds and --value-size are whole numbers above 0"
    [[ $warm_up =~ ^[0-9]+$ ]] || usage_error "--warm-up is a whole number of seconds"
    [[ $clients =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || usage_error "--clients is a list like 1,16,256"
    case $only in
        '' | "$peer" | kv) ;;
        *) usage_error "--only is $peer or kv" ;;
    esac
}

# Every long-lived child gets a session of its own, so that one signal reaches it with all its descendants, and dies
# with this shell even if the shell is killed. Its process id is left in $started.
start() {
    setsid setpriv --pdeathsig KILL "$@" &
    started=$!
    running+=("$started")
}

# Runs a child to its end. The shell waits in a builtin, so a signal is handled at once and not when the child ends.
run() {
    start "$@"
    local status=0
    wait "$started" || status=$?
    stop_group "$started"
    return "$status"
}

# Ends a child and its descendants: asks first, insists after three seconds.
stop_group() {
    local leader=$1 tries others=()
    if kill -TERM -- "-$leader" 2>/dev/null; then
        for ((tries = 0; tries < 60; tries++)); do
            kill -0 -- "-$leader" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL -- "-$leader" 2>/dev/null
    fi
    wait "$leader" 2>/dev/null
    for tries in "${running[@]}"; do
        [ "$tries" = "$leader" ] || others+=("$tries")
    done
    running=("${others[@]}")
}

stop_all() {
    local leader
    for leader in "${running[@]}"; do
        stop_group "$leader"
    done
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    stop_all
    [ -z "$temp" ] || rm -rf "$temp"
    exit "$status"
}

# Makes the folder that holds everything, on the disk that is measured.
make_temp() {
    mkdir -p "$data" || die "cannot make $data; choose another folder with --data"
    temp=$(mktemp -d "$data/run.XXXXXX") || die "cannot write to $data; choose another folder with --data"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    case $(stat -f -c %T "$temp") in
        tmpfs | ramfs) say "warning: $data is in memory: syncs cost nothing there, and the figures mean nothing. Use --data." ;;
    esac
}

# need COMMAND_OR_FILE PACKAGE…: installs the packages from Debian when the first is not there.
need() {
    local wanted=$1
    shift
    if command -v "$wanted" >/dev/null || [ -e "$wanted" ]; then return; fi
    command -v apt-get >/dev/null || die "$wanted is missing; install the equivalent of Debian's $*"
    say "installing $* from Debian"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get install -y --no-install-recommends "$@" >&2 ||
        { "${sudo[@]}" apt-get update >&2 && "${sudo[@]}" apt-get install -y --no-install-recommends "$@" >&2; } ||
        die "cannot install $*; install them by hand and start again"
}

# A person's own etcd or kv cluster must not reach the ones measured here through the environment.
forget_environment() {
    local name
    for name in "${!ETCD_@}" "${!ETCDCTL_@}" "${!KV_@}"; do unset "$name"; done
}

target_of() { printf '%s\n' "${CARGO_TARGET_DIR:-$1/target}"; }

build_tools() {
    cargo build --quiet --release --locked --manifest-path "$bench/Cargo.toml" >&2 || die "the bench tools do not build"
    tools=$(target_of "$bench")/release
}

build_kv() {
    cargo build --quiet --release --manifest-path "$repo/Cargo.toml" -p kv >&2 || die "kv does not build"
    kv=$(target_of "$repo")/release/kv
}

# kv_run CLIENTS EXTRA…: one run of our own system; its temporary files go to the same disk as the peer's.
kv_run() {
    local count=$1 dir=$temp/kv.$1 status=0
    shift
    mkdir -p "$dir"
    say "kv      $count"
    TMPDIR=$dir run "$kv" bench "$@" --clients "$count" --value-size "$value_size" --seconds "$seconds" --json \
        --data "$dir/cluster" \
        >"$temp/kv.out" 2>"$temp/kv.err" || status=$?
    if [ "$status" != 0 ]; then
        tail -n 20 "$temp/kv.err" >&2
        die "kv bench ended with status $status"
    fi
    tail -n 1 "$temp/kv.out" >>"$temp/kv.jsonl"
    rm -rf "$dir"
}

# One system at a time, by turns: for each count the peer and kv, in the next count (and round) the other way round.
# Calls peer_run COUNT and ours_run COUNT.
take_turns() {
    local round count turn=0
    for ((round = 1; round <= rounds; round++)); do
        for count in ${clients//,/ }; do
            sync
            "$tools/bench-report" --dir "$temp" --probe >>"$temp/syncs" || die "the disk of $temp cannot be probed"
            if ((turn++ % 2 == 0)); then
                one_run "$peer" peer_run "$count"
                one_run kv ours_run "$count"
            else
                one_run kv ours_run "$count"
                one_run "$peer" peer_run "$count"
            fi
        done
    done
}

one_run() {
    [ -z "$only" ] || [ "$only" = "$1" ] || return 0
    # What the run before has left unwritten is not charged to this one.
    sync
    "$2" "$3"
}

# report TITLE: every file of runs but ours is a peer's, named by the file.
report() {
    local args=(--title "$1" --dir "$temp" --syncs "$temp/syncs") file name
    for file in "$temp/$peer".jsonl "$temp/$peer"-*.jsonl "$temp/kv.jsonl"; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .jsonl)
        if [ "$name" = kv ]; then args+=(--kv "$file"); else args+=(--peer "$name=$file"); fi
    done
    [ "$json" = no ] || args+=(--json)
    "$tools/bench-report" "${args[@]}"
}
