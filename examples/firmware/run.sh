#!/usr/bin/env bash
# Builds the firmware for a Cortex-M4 and runs it in QEMU; prints the flash and RAM it uses.
#
# Debian's own compiler is used, with the source of the library `core`, because it needs nothing that is not in Debian.
# It is called by its full path, so that an installed rustup goes on to serve everything else.
set -euo pipefail

usage="usage: examples/firmware/run.sh [--build-only | --events]
--events: prints what happens in each replica, too.
Installs what is missing of Debian's rustc-web, cargo-web, rust-web-src, lld, binutils-arm-none-eabi and qemu-system-arm."

target=thumbv7em-none-eabi
# The run takes less than a second; a program that hangs is a failure.
seconds_max=60
# The least stack that must be left unused, in bytes.
stack_left_min=1024

firmware=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
elf=$firmware/target/$target/release/firmware
# The board's PSRAM, as QEMU has it.
psram_bytes=$((16 << 20))
psram_start=$((0x21000000))

say() { printf '%s\n' "$*"; }

die() {
    say "run.sh: $*" >&2
    exit 1
}

install_missing() {
    local package missing=() root=()
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || root=(sudo)
    say "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

build() {
    install_missing rustc-web cargo-web rust-web-src lld binutils-arm-none-eabi
    # `core` is built with the program, which this compiler, being a release, must be told to do. The flags in
    # .cargo/config.toml must not be replaced by those of another build.
    cd "$firmware"
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u RUSTUP_TOOLCHAIN \
        RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_THUMBV7EM_NONE_EABI_LINKER=/usr/bin/ld.lld \
        /usr/bin/cargo build --release --locked -Zbuild-std=core --target "$target" --target-dir "$firmware/target" "$@"
}

run() {
    install_missing qemu-system-arm
    local status=0
    timeout "$seconds_max" qemu-system-arm -M mps2-an386 -display none -monitor none -serial none \
        -object "memory-backend-file,id=psram,size=$psram_bytes,mem-path=$psram,share=on" -machine memory-backend=psram \
        -semihosting-config enable=on,target=native -kernel "$elf" </dev/null || status=$?
    case $status in
    0) ;;
    124) die "the program did not end within $seconds_max s" ;;
    *) die "the program failed with status $status" ;;
    esac
}

# symbol NAME: its address.
symbol() {
    local address
    address=$(arm-none-eabi-nm "$elf" | awk -v name="$1" '$3 == name { print $1 }')
    [[ -n $address ]] || die "the program has no symbol $1"
    say $((16#$address))
}

# The bytes of stack that still have the paint of the start-up code, counted from its far end.
stack_left() {
    local start=$1 bytes=$2
    od -An -v -tx4 -w4 -j $((start - psram_start)) -N "$bytes" "$psram" |
        awk '$1 != "cccccccc" { used = 1 } !used { left += 4 } END { print left + 0 }'
}

report_size() {
    local text data bss
    read -r text data bss _ < <(arm-none-eabi-size "$elf" | tail -n 1)
    say "flash: $((text + data)) bytes (code and constants $text, initial values $data)"
    say "RAM: $((data + bss)) bytes of static memory"
}

report_stack() {
    local start end left
    start=$(symbol _stack_end)
    end=$(symbol _stack_start)
    left=$(stack_left "$start" $((end - start)))
    say "stack: $((end - start - left)) bytes at most, of the $((end - start)) that are left for it"
    ((left >= stack_left_min)) || die "less than $stack_left_min bytes of stack were left: give the program more RAM"
}

case ${1-} in
'' | --events)
    if [[ ${1-} == --events ]]; then build --features events; else build; fi
    psram=$(mktemp)
    trap 'rm -f "$psram"' EXIT
    run
    report_size
    report_stack
    ;;
--build-only)
    build
    report_size
    ;;
*)
    say "$usage" >&2
    exit 2
    ;;
esac
