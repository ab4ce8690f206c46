"""Tasks that were delivered by webhook and are not collected yet."""
