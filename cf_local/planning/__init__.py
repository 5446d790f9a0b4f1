"""What a set of models needs of the memory, and how it is arranged. Pure arithmetic."""
