#!/bin/sh
echo "check,name=bad value=1i 1700000000000000000"
echo "disk is away" >&2
echo "second line" >&2
exit 2
