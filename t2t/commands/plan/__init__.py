"""`t2t plan`: what a run would do, before it does it. Nothing is written, no server is started.

What is done already is found as a run finds it: embeddings by the files' hashes in the store, labels by what the lake
says each teacher was asked, rounds by the ledger (`estimate`). Times come from what was measured here (`rates`); where
nothing was, that is said (`show`).
"""
