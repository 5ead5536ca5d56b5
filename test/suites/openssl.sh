#!/bin/sh
# Digests and ciphers over inputs of awkward sizes, in every way that OpenSSL
# knows to compute them on processors of this kind; keys, made and used.
set -eu

openssl enc -aes-128-ctr -K 0123456789abcdef0123456789abcdef \
    -iv 00000000000000000000000000000000 </dev/zero 2>/dev/null |
    head -c 300007 >all
for size in 0 1 15 16 17 55 56 63 64 65 111 112 127 128 129 1000 4095 65537; do
	head -c $size all >"part-$size"
done
sha256sum all

# What OPENSSL_ia32cap takes away: nothing, SHA, AVX2, AVX, AES and PCLMULQDQ,
# SSSE3.
for without in :0 :~0x20000000 :~0x20000120 ~0x1000000000000000:~0x20000120 \
    ~0x1200000200000000:~0x20000120 ~0x1200020200000000:~0x20000120; do
	[ $without = :0 ] || export OPENSSL_ia32cap=$without
	for digest in md5 ripemd160 sha1 sha224 sha256 sha384 sha512 sha3-256 \
	    shake256 blake2b512 blake2s256 sm3; do
		echo "$without $digest" "$(openssl dgst -$digest -r -provider \
		    default -provider legacy all part-* | sha256sum)"
	done
	for cipher in aes-128-cbc aes-192-cbc aes-256-cbc aes-128-ctr \
	    aes-256-ctr aes-128-ecb aes-256-cfb aes-128-ofb aria-128-cbc \
	    camellia-256-cbc chacha20 des-ede3-cbc sm4-cbc; do
		key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
		case $cipher in
		*128* | sm4*) key=00112233445566778899aabbccddeeff ;;
		*192* | des*) key=00112233445566778899aabbccddeeff0011223344556677 ;;
		esac
		iv=0123456789abcdeffedcba9876543210
		case $cipher in
		*ecb) iv= ;;
		des*) iv=0123456789abcdef ;;
		esac
		openssl enc -e -$cipher -K $key ${iv:+-iv $iv} -in all \
		    -out sealed
		openssl enc -d -$cipher -K $key ${iv:+-iv $iv} -in sealed \
		    -out opened
		cmp all opened
		echo "$without $cipher $(sha256sum <sealed)"
	done
done
unset OPENSSL_ia32cap

for key in 'RSA -pkeyopt rsa_keygen_bits:2048' 'ED25519' 'ED448' \
    'EC -pkeyopt ec_paramgen_curve:P-256' \
    'EC -pkeyopt ec_paramgen_curve:P-384' \
    'EC -pkeyopt ec_paramgen_curve:secp256k1'; do
	# shellcheck disable=SC2086 # one word an argument
	openssl genpkey -algorithm $key -out key 2>/dev/null
	openssl pkey -in key -pubout -out public
	openssl pkey -in key -check -noout
	openssl pkeyutl -sign -rawin -in part-1000 -inkey key -out signed
	openssl pkeyutl -verify -rawin -in part-1000 -pubin -inkey public \
	    -sigfile signed
done
for key in X25519 X448; do
	for who in a b; do
		openssl genpkey -algorithm $key -out $who
		openssl pkey -in $who -pubout -out $who.public
	done
	openssl pkeyutl -derive -inkey a -peerkey b.public -out ab
	openssl pkeyutl -derive -inkey b -peerkey a.public -out ba
	cmp ab ba
	echo $key
done
# 2^127 - 1
openssl prime 170141183460469231731687303715884105727
