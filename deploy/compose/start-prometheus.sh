#!/bin/sh
# Starts Prometheus, after it has made blocks of the history that the exporter has written for it.
#
# usage: start-prometheus.sh HISTORY DATA [FLAG ...]
set -eu
history=$1 data=$2
shift 2

for text in "$history"/*.om; do
    # Without any, this is the pattern itself.
    [ -e "$text" ] || continue
    echo "making a block of ${text##*/}"
    # It has scratch files, and nothing else can be written to.
    TMPDIR=$data promtool tsdb create-blocks-from openmetrics --quiet --max-block-duration=486h "$text" "$data"
    rm "$text"
done
exec prometheus "--storage.tsdb.path=$data" "$@"
