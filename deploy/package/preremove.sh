#!/bin/sh
# Before a removal ("remove" in Debian, 0 in RPM), and before an upgrade, which needs nothing.
set -e
case "$1" in remove | 0) ;; *) exit 0 ;; esac
units='waybill.service waybill-public.socket waybill-internal.socket'
if [ -d /run/systemd/system ]; then
  systemctl stop $units
fi
if command -v systemctl >/dev/null; then
  systemctl --quiet disable $units
fi
