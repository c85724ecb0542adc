"""Describing radiographs in words: one protocol, three captioners or none, and what a caption says."""
