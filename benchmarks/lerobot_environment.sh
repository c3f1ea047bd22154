#!/bin/sh
# Make an environment of its own with LeRobot, for benchmarks that compare with it: its versions exclude kinema's.
#
#   sh benchmarks/lerobot_environment.sh [folder]      default: runs/bench/lerobot
#   PYTHON                                             interpreter to use (default: python3.11)
#
# LeRobot 0.4.4 is the newest for Python 3.11 (0.5 and later need 3.12). What it pins (torch < 2.11, torchcodec < 0.11)
# has no CPU builds here, so newer ones are installed beside it: torchcodec reads videos faster the newer it is.
# torchcodec uses the FFmpeg that PyAV brings along, so both sides decode with libraries of the same make.
set -eu
folder=${1:-runs/bench/lerobot}
python=${PYTHON:-python3.11}
if [ -f "$folder/complete" ]; then
    echo "$folder is there already"
    exit 0
fi
"$python" -m venv --clear "$folder"
pip() { "$folder/bin/python" -m pip --disable-pip-version-check -q "$@"; }
pip install "torch==2.13.0" "numpy==2.4.6"
pip install --no-deps "lerobot==0.4.4" "torchcodec==0.13.0" "torchvision==0.28.0"
pip install "datasets==4.8.0" "huggingface-hub==0.35.3" "av==15.1.0" "draccus==0.10.0" "accelerate==1.12.0" \
    "jsonlines" "einops" "deepdiff" "packaging" "imageio" "opencv-python-headless" "gymnasium" "psutil" "termcolor"
libraries=$(echo "$folder"/lib/python3*/site-packages/av.libs)
for library in "$libraries"/lib*-*.so.*; do
    # libavcodec-7ee0753d.so.61.19.101 -> libavcodec.so.61, the name by which torchcodec asks for it
    plain=$(basename "$library" | sed -E 's/^(lib[a-z]+)-[0-9a-f]+(\.so\.[0-9]+).*/\1\2/')
    case $plain in libav*|libsw*) ln -sf "$(basename "$library")" "$libraries/$plain" ;; esac
done
echo "$libraries" >"$folder/complete"
echo "$folder is ready"
