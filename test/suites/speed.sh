#!/bin/sh
# OpenSSL's own measurements, which check what they compute with.
set -eu

for what in md5 sha1 sha256 sha512 aes-128-cbc aes-256-gcm chacha20-poly1305; do
	openssl speed -seconds 1 -bytes 8192 -evp $what >&2
	echo $what
done
openssl speed -seconds 1 rsa2048 ecdsap256 ecdhx25519 ed25519 >&2
echo keys
