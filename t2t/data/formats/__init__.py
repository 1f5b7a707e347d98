"""Other programs' files of samples, people's labels and models' predictions, read and written: one module a format."""
