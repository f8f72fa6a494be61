import time

import httpx
from httpx_ws import HTTPXWSException, connect_ws

position = ""
while True:
    try:
        with connect_ws(f"ws://localhost:8099/trade-updates-paper{position}") as ws:
            ws.send_text('{"action":"auth","key":"any","secret":"any"}')
            while True:
                match ws.receive_json():
                    case {"stream": "trade_updates", "data": update}:
                        print(update["event"], update["order"]["id"])
                        position = f"?since_id={update['event_id']}"
    except (httpx.HTTPError, HTTPXWSException) as error:
        print(repr(error))
    time.sleep(1)
