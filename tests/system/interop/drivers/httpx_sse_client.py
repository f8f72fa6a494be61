import time

import httpx
from httpx_sse import connect_sse

url = "http://localhost:8099/trade-updates-paper/v2/events/trades"
position = {}
with httpx.Client(timeout=60) as client:
    while True:
        try:
            with connect_sse(client, "GET", url, headers=position) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    if event.data:  # a heartbeat has only an id
                        update = event.json()
                        print(update["event"], update["order"]["id"])
                    if event.id:
                        position = {"Last-Event-ID": event.id}
        except httpx.TransportError as error:
            print(error)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise  # 410: the position is no longer stored
        time.sleep(1)
