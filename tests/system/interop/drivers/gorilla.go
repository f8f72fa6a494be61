package main

import (
	"fmt"
	"log"
	"time"

	"github.com/gorilla/websocket"
)

type message struct {
	Stream string
	Data   struct {
		Event   string
		EventID string `json:"event_id"`
		Order   struct{ ID string }
	}
}

var position string

func follow() error {
	url := "ws://localhost:8099/trade-updates-paper/stream" + position
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		return err
	}
	defer ws.Close()
	for _, request := range []string{
		`{"action":"auth","key":"any","secret":"any"}`,
		`{"action":"listen","data":{"streams":["trade_updates"]}}`,
	} {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(request)); err != nil {
			return err
		}
	}
	for {
		var got message
		if err := ws.ReadJSON(&got); err != nil {
			return err
		}
		if got.Stream == "trade_updates" {
			fmt.Println(got.Data.Event, got.Data.Order.ID)
			position = "?since_id=" + got.Data.EventID
		}
	}
}

func main() {
	for {
		log.Println(follow())
		time.Sleep(time.Second)
	}
}
