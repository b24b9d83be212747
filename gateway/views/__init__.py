"""Jobs, models and answers as clients see them, the same for both faces. Knows no HTTP and no gRPC."""
