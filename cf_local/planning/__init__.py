"""How much memory a set of models needs, and how it is arranged. Pure arithmetic."""
