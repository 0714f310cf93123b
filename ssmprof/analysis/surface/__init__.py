"""Times over two axes, batch and context: what lies between points, and how well it is known."""
