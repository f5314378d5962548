#!/bin/sh
# Redis keeps passwords as hashes: the Secret's goes into the ACL as one.
set -eu
umask 077
hash=$(tr -d '\n' </etc/redis-password/password | sha256sum | cut -d ' ' -f 1)
sed "s/@PASSWORD_SHA256@/$hash/" /etc/redis/users.acl >/run/redis/users.acl
exec redis-server /etc/redis/redis.conf
