#!/bin/sh
# Install the real peers that the tests talk to, as Debian ships them.
set -eu

exec "$(dirname "$0")/apt-install.sh" \
    Orthanc:orthanc \
    storescp:dcmtk \
    dciodvfy:dicom3tools \
    DicomSRValidator:pixelmed-apps \
    postgres:postgresql \
    redis-server:redis-server \
    rabbitmq-server:rabbitmq-server \
    chromium:chromium \
    pdftotext:poppler-utils
