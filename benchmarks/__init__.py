"""t2t measured against what one would use instead: `make bench`, `make bench-full`, docs/performance.md."""
