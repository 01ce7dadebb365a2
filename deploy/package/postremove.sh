#!/bin/sh
# After a removal. Configuration, keys and data go with "purge" in Debian only, and RPM leaves them where they are.
set -e
if [ "$1" = purge ]; then
  rm -rf /etc/waybill /var/lib/waybill /var/lib/private/waybill /var/log/waybill /var/log/private/waybill
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
