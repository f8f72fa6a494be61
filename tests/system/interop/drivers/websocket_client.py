import json

import websocket

URL = "ws://localhost:8099/trade-updates-paper?proxy_status=1"


def on_open(app):
    app.send(json.dumps({"action": "auth", "key": "any", "secret": "any"}))


def on_message(app, message):
    match json.loads(message):
        case {"stream": "trade_updates", "data": update, **more}:
            print(update["event"], update["order"]["id"])
            if "cursor" in more:
                app.url = f"{URL}&since_id={more['cursor']}"  # the next connection resumes here
        case {"data": {"event": "hello", "cursor": str(cursor)}}:
            app.url = f"{URL}&since_id={cursor}"
        case {"data": {"state": "impossible", "reason": reason}}:
            print(f"earlier events are not available: {reason}")


app = websocket.WebSocketApp(URL, on_open=on_open, on_message=on_message)
app.run_forever(reconnect=1)
