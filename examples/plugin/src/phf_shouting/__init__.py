"""An example plugin of phf: one component of each kind. See pyproject.toml for the names that recipes use."""
