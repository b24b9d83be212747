"""`headrace doctor`: checks a live installation, and says what to do. One file for each group of checks."""
