"""The only folder that imports mlflow."""
