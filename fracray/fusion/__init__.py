"""Words beside numbers: rows in memory, the classifier on both, its calibration and its training."""
