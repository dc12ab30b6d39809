"""Learners: clone, finetune and their foils."""
