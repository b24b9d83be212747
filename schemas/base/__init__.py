"""Building blocks of schemas: fields, bounds, and times. Knows no request and no answer."""
