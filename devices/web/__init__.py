"""`web`: models in a real browser, as a web app runs them."""
