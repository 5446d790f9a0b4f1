"""The sources and fusions of ``models.toml`` in all its layers: read, check, edit."""
