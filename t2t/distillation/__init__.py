"""Many encoders into one: a student learns what frozen teachers see of frames, without labels."""
