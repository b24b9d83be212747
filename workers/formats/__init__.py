"""What each format's files say of a model: one file a format."""
