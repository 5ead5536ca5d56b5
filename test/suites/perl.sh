#!/bin/sh
# Perl: numbers, regular expressions, sorting, big integers.
set -eu

perl -e '
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Math::BigInt;

my $x = 42; my @n;
for (1 .. 20000) { $x = ($x * 1103515245 + 12345) % 2147483648; push @n, $x }
print sha256_hex(join ",", sort { $a <=> $b } @n), "\n";
print sha256_hex(join ",",
	map { sprintf "%.15g %e %a", sqrt $_, log, 1 / $_ } @n), "\n";
my $text = join " ", map { sprintf "%x-%o", $_, $_ } @n;
my %seen;
$seen{$_}++ for $text =~ /([a-f]+\d[a-f]*)/g;
print sha256_hex(join ",", map { "$_=$seen{$_}" } sort keys %seen), "\n";
my $f = Math::BigInt->new(300)->bfac; print "$f\n";
print Math::BigInt->new(3)->bmodpow("123456789123456789",
	"1000000000000000003"), "\n";
print unpack("H*", pack "d<f<q<n", -1 / 3, 1e-40, -5, 65535), "\n";
'
