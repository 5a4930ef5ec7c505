"""What is measured, by field: one module each, with a function `items`."""
