# SPDX-License-Identifier: Apache-2.0
# Runs PHP-FPM behind nginx. Both write below /tmp alone.
set -eu
mkdir -p /tmp/nginx
/usr/sbin/php-fpm* --fpm-config fpm.conf
exec /usr/sbin/nginx -c /var/task/php/nginx.conf -e stderr
