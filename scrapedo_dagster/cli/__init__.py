"""The command `scrapedo-dagster`."""
