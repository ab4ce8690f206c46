"""Clients, requests, responses and errors of the Scrape.do Async API. Usable without Dagster.

```python
from scrapedo_dagster.api import JobRequest, ScrapeDoAsyncAPIClient

with ScrapeDoAsyncAPIClient() as client:  # the token is read from SCRAPE_DO_API_KEY
    result = client.submit_and_wait(JobRequest(targets=["https://example.com"], geo_code="us"))
    for task in result.tasks:
        print(task.url, task.status_code, len(task.decoded_content() or b""))
```
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
