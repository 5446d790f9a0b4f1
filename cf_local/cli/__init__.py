"""The command ``cf-local``: parse, call the library, render. Nothing imports this package."""
