"""From the names of models to a loaded fusion."""
