"""SessionLog: the one record of sessions, its readers, checks and storage."""
