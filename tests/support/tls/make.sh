#!/bin/sh
# Makes the certificates of the tests anew: an authority, and a server on this machine that it vouches for. Both hold
# for a hundred years; neither is trusted by anything but the tests that name `authority.pem` themselves.
set -eu
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key authority.key
openssl req -new -x509 -key authority.key -days 36500 -subj "/CN=Postern tests" -out authority.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
key server.key
openssl req -new -key server.key -subj "/CN=localhost" |
    openssl x509 -req -CA authority.pem -CAkey authority.key -CAcreateserial -days 36500 -out server.pem -extfile /dev/fd/3 3<<END
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
END
rm -f authority.key authority.srl
