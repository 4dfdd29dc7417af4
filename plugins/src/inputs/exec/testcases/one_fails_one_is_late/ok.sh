#!/bin/sh
echo "check,words=$# value=$VALUE,name=\"$1\" 1700000000000000000"
