"""One file a kind of teacher."""
