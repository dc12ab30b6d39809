"""Pure tensor functions that read like the papers they come from."""
