"""Search fine-tuning and fusion settings on a cluster.

    ray job submit --working-dir . -- python jobs/search.py /shared/manifest.parquet \
        --store /shared/features --out /shared/search

Takes the options of `fracray search`. After a crash submit the same job with --resume added.
"""

import sys

from fracray.cli.app import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
