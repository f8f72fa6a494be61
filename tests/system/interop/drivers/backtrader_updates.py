from backtrader_store import store

print("account:", store.oapi.get_account().status)  # a request, like those for orders
store._transaction = lambda order: print(order["status"], order["id"])
store.streaming_events()
input()  # the stream has threads of its own
