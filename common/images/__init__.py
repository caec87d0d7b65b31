"""From image files to batches: decoding, cache, augmentation, splits."""
