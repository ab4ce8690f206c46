"""Plans, sends, continues, reconciles and cancels submissions."""
