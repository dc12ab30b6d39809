"""The claims of an introduction to imitation learning, each as an experiment that can be run again."""
