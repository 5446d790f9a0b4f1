"""Tasks: where the questions come from, and how an answer is judged."""
