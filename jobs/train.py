"""Fit the best pipeline on the development rows and write the bundle.

    ray job submit --working-dir . -- python jobs/train.py /shared/manifest.parquet --store /shared/features \
        --search /shared/search --out /shared/bundle

Takes the options of `fracray train`.
"""

import sys

from fracray.cli.app import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
