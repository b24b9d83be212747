"""What clients see of jobs, models and answers, the same for both faces. Knows no HTTP and no gRPC."""
