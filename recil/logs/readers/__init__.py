"""One reader per format: each builds the long table and hands it to `from_frame`, which checks it."""
