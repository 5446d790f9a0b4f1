"""Who computes when: fusions, conversations, streams, and the one thread that they share."""
