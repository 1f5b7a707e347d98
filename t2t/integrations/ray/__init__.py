"""Ray: embedding, labeling and training on a cluster (`engine: ray`, docs/scale.md). Imported when it is asked for."""
