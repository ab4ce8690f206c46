"""Deliveries: tasks that Scrape.do has delivered by webhook and that are not collected yet."""
