"""How good a fusion is: evaluation, apart from answering."""
