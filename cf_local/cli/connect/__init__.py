"""``cf-local connect``: what a client needs to use the server."""
