"""What every layer uses: files, devices, errors, words, seeds, progress."""
