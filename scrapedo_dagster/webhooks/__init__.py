"""The receiver of Scrape.do's webhooks: an ASGI app that stores finished tasks in the inbox."""
