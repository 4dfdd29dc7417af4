#!/bin/bash
# Runs all tests: format, lints, unit tests, and the agent against real brokers and backends.
#
# As root on Debian it installs the servers that the tests start; elsewhere they have to be there, and a test without its
# server fails with the name of the package.
set -euo pipefail
cd "$(dirname "$0")"

packages=(mosquitto mosquitto-clients graphite-carbon prometheus victoria-metrics)

install_servers() {
  local package missing=()
  for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    return
  fi
  echo "== installing ${missing[*]}"
  # The packages start their services by themselves; the tests start their own, on other ports and with other files.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap "rm -f $policy" EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}

if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
  install_servers
fi

echo "== format"
cargo fmt --all --check
echo "== lints"
cargo clippy --workspace --all-targets --all-features -- -D warnings
echo "== tests"
cargo test --workspace --all-features
echo "== all tests passed"
