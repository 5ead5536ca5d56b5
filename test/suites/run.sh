#!/bin/sh
# Run a suite: what it says on its standard output, then, marked, the end of
# what it says beside that if it fails, and its status.
#
# usage: run.sh NAME SECONDS MINUTES
#
# It may take SECONDS; MINUTES are for those that go on as long as one likes.
name=$1
export MINUTES="$3"
export PATH=/usr/bin:/usr/sbin HOME=/root LC_ALL=C TZ=UTC
rm -rf "/tmp/$name"
mkdir -p "/tmp/$name"
cd "/tmp/$name" || exit 1
timeout -k 10 "$2" sh "/suites/$name.sh" >../out 2>../err </dev/null
status=$?
cat ../out
[ "$status" = 0 ] || tail -n 30 ../err | sed 's/^/! /'
cd /
rm -rf "/tmp/$name"
echo "status $status"
