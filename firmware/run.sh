#!/bin/sh
# run.sh BOARD ELF - runs an image under qemu, its serial port on standard output. Instructions are counted, one a
# nanosecond. 77: no qemu for it here.
board=$1 elf=$2
case $board in
mps2) qemu=qemu-system-arm how="-M mps2-an500 -semihosting" ;;
virt) qemu=qemu-system-riscv64 how="-M virt -bios none -m 256M" ;;
*) echo "run.sh: '$board' found, mps2 or virt expected" >&2; exit 2 ;;
esac
command -v $qemu >/dev/null || exit 77
# shellcheck disable=SC2086
exec timeout "${SECONDS_MOST:-900}" $qemu $how -icount shift=0 -display none -monitor none -serial stdio -kernel "$elf" </dev/null
