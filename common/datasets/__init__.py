"""What is on the disk: files, columns, labels, bins and shots. No model, no training."""
