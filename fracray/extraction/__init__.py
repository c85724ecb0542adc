"""From a manifest to features in Parquet: the feature store and the Ray Data pipeline that fills it."""
