"""One file for each claim: what is measured, and what would show it wrong."""
