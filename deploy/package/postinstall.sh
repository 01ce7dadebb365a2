#!/bin/sh
# After an installation or an upgrade, of Debian and RPM alike. Nothing is enabled or started: there is no configuration yet.
# What runs is started anew, and its sockets stay open meanwhile.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl try-restart waybill.service || echo "waybill: the new version does not start, see journalctl -u waybill" >&2
