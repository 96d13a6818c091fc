"""The domains, one a module: `name: foo` in a config is the one `Domain` class in `foo.py`. None imports torch."""
