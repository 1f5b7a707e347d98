"""What frame encoders are worth beside one another, without training anything on top but a linear probe.

As UNIC measures them: k-NN and a linear probe on labeled data, the distilled student beside every teacher and beside
all of them put together; and how both fall where the encoder's weights, or its features' directions, are taken away.
"""
