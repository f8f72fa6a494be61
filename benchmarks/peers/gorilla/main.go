// The relay with gorilla/websocket, like its chat example: a hub, and for each client a channel and
// a writing goroutine. Each event is framed once, as a PreparedMessage.
//
//	relay PORT UPSTREAM_PORT
//
// With TLS_KEY and TLS_CERTIFICATE, two PEM files, the clients have TLS.
package main

import (
	"crypto/tls"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	login         = `{"action":"auth","key":"any","secret":"any"}`
	listen        = `{"action":"listen","data":{"streams":["trade_updates"]}}`
	authenticated = `[{"T":"success","msg":"authenticated"}]`
	sendBuffer    = 256
)

// Hub holds the clients that get events.
type Hub struct {
	mutex   sync.Mutex
	clients map[*Client]bool
}

// Client is one connection; messages in its channel send are written to it.
type Client struct {
	connection *websocket.Conn
	send       chan *websocket.PreparedMessage
}

func (hub *Hub) add(client *Client) {
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	hub.clients[client] = true
}

func (hub *Hub) remove(client *Client) {
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	if hub.clients[client] {
		delete(hub.clients, client)
		close(client.send)
	}
}

func (hub *Hub) broadcast(message *websocket.PreparedMessage) {
	hub.mutex.Lock()
	defer hub.mutex.Unlock()
	for client := range hub.clients {
		select {
		case client.send <- message:
		default: // too slow
			delete(hub.clients, client)
			close(client.send)
		}
	}
}

func (client *Client) write() {
	defer client.connection.Close()
	for message := range client.send {
		if client.connection.WritePreparedMessage(message) != nil {
			return
		}
	}
}

func (hub *Hub) serve(writer http.ResponseWriter, request *http.Request) {
	connection, err := (&websocket.Upgrader{}).Upgrade(writer, request, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	if _, _, err := connection.ReadMessage(); err != nil {
		return
	}
	if connection.WriteMessage(websocket.TextMessage, []byte(authenticated)) != nil {
		return
	}
	client := &Client{connection, make(chan *websocket.PreparedMessage, sendBuffer)}
	hub.add(client)
	defer hub.remove(client)
	go client.write()
	for {
		if _, _, err := connection.ReadMessage(); err != nil {
			return
		}
	}
}

func (hub *Hub) relay(url string) error {
	upstream, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		return err
	}
	for _, request := range []string{login, listen} {
		if err := upstream.WriteMessage(websocket.TextMessage, []byte(request)); err != nil {
			return err
		}
		if _, _, err := upstream.ReadMessage(); err != nil {
			return err
		}
	}
	for {
		_, event, err := upstream.ReadMessage()
		if err != nil {
			return nil
		}
		message, err := websocket.NewPreparedMessage(websocket.TextMessage, event)
		if err != nil {
			return err
		}
		hub.broadcast(message)
	}
}

func main() {
	hub := &Hub{clients: map[*Client]bool{}}
	address, handler := "127.0.0.1:"+os.Args[1], http.HandlerFunc(hub.serve)
	go func() {
		if key := os.Getenv("TLS_KEY"); key != "" {
			// Without HTTP/2, which has no WebSocket here.
			server := http.Server{Addr: address, Handler: handler}
			server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
			log.Fatal(server.ListenAndServeTLS(os.Getenv("TLS_CERTIFICATE"), key))
		}
		log.Fatal(http.ListenAndServe(address, handler))
	}()
	if err := hub.relay("ws://127.0.0.1:" + os.Args[2] + "/stream"); err != nil {
		log.Fatal(err)
	}
}
