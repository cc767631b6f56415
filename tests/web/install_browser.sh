#!/bin/sh
# Installs what the browser tests need, where this machine allows it; the tests themselves fail if it is still missing.
command -v chromium >/dev/null && fc-list :lang=zh 2>/dev/null | grep -q . && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq chromium fonts-noto-cjk fonts-noto-color-emoji >/dev/null && exit 0
fi
echo "Browser tests need Chromium and a Chinese font: apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji" >&2
