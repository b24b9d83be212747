"""What schemas are made of: fields, bounds of what they take, and times. Knows no request and no answer."""
