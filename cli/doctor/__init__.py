"""`headrace doctor`: looks at a live installation, and says what to do. One file a group of checks."""
