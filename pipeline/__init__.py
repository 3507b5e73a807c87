"""Runs stages: configuration, artifacts on disk, fingerprints, resume, workers, progress."""
