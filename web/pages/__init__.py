"""What a person sees in a browser: the dashboard, and the documentation of the API."""
