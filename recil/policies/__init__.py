"""Everything that recommends is a Policy."""
