import json

from twisted.internet import defer, task
from twisted.internet.error import ConnectError
from twisted.web.websocket import ConnectionRejected, WebSocketClientEndpoint

URL = "ws://localhost:8099/trade-updates-paper?proxy_status=1"


class Updates:
    url = URL

    @classmethod
    def buildProtocol(cls, url):
        return cls()

    def negotiationStarted(self, transport):
        self.transport = transport
        self.ended = defer.Deferred()

    def negotiationFinished(self):
        self.transport.sendTextMessage('{"action":"auth","key":"any","secret":"any"}')

    def textMessageReceived(self, message):
        match json.loads(message):
            case {"stream": "trade_updates", "data": update, **more}:
                print(update["event"], update["order"]["id"])
                if "cursor" in more:
                    Updates.url = f"{URL}&since_id={more['cursor']}"
            case {"data": {"event": "hello", "cursor": str(cursor)}}:
                Updates.url = f"{URL}&since_id={cursor}"
            case {"data": {"state": "impossible", "reason": reason}}:
                print(f"earlier events are not available: {reason}")

    def bytesMessageReceived(self, data):
        pass

    def pongReceived(self, payload):
        pass

    def connectionLost(self, reason):
        self.ended.callback(None)


async def stream_updates(reactor):
    while True:
        endpoint = WebSocketClientEndpoint.new(reactor, Updates.url)
        try:
            connecting = defer.Deferred.fromCoroutine(endpoint.connect(Updates))
            updates = await connecting.addTimeout(10, reactor)
            await updates.ended
        except (ConnectError, ConnectionRejected, defer.TimeoutError) as error:
            print(error)
        await task.deferLater(reactor, 1)


task.react(stream_updates)
