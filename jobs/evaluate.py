"""Score a bundle on the rows that it never saw.

    ray job submit --working-dir . -- python jobs/evaluate.py /shared/bundle /shared/manifest.parquet \
        --store /shared/features --out /shared/evaluation

Takes the options of `fracray evaluate`.
"""

import sys

from fracray.cli.app import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
