"""The command line: the same words as in Python. Importing it loads neither torch nor mlflow."""

from recil.cli.main import main

__all__ = ["main"]
