"""The command line `scrapedo-dagster`, one file per command."""
