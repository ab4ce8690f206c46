"""Plans, sends, continues, reconciles, resumes and cancels submissions."""
