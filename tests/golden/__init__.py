"""What the product says and does, recorded before and compared after a refactoring."""
