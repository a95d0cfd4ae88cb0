"""Street images and their labels: found, decoded, cached, augmented."""
