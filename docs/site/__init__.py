"""What the reference pages of the documentation are made of: the product itself."""
