"""The receiver of Scrape.do's webhooks: an ASGI app that puts finished tasks into the inbox (`engine/inbox.py`)."""
