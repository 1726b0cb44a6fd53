"""The gRPC front. The only place that imports grpc."""
