"""Caption and embed radiographs on a cluster.

    ray job submit --working-dir . -- python jobs/extract.py /shared/manifest.parquet --store /shared/features

Takes the options of `fracray extract`; `python jobs/extract.py --help` lists them. It succeeds when every
row was tried; rows that failed are counted at the end of its log and keep their reason in the store.
"""

import sys

from fracray.cli.app import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])
