"""Running the engine beside other software: local services, compose file, images and manifests."""
