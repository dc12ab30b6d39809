"""The experiment file: a TOML file checked in full before any work, as frozen data."""

from recil.config.load import Experiment, Method, content_hash, load_experiment, method_settings

__all__ = ["Experiment", "Method", "content_hash", "load_experiment", "method_settings"]
