"""What goes to each kind of provider over the wire, and what comes back."""
