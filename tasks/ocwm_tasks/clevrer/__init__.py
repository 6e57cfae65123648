"""CLEVRER: videos of colliding objects and questions about them."""
