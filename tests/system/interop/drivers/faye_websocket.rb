require "eventmachine"
require "faye/websocket"
require "json"

$stdout.sync = true
position = ""

connect = lambda do
  ws = Faye::WebSocket::Client.new("ws://localhost:8099/trade-updates-paper#{position}")
  ws.on(:open) { ws.send('{"action":"auth","key":"any","secret":"any"}') }
  ws.on(:message) do |message|
    case JSON.parse(message.data, symbolize_names: true)
    in { stream: "trade_updates", data: { event:, event_id:, order: { id: } } }
      puts "#{event} #{id}"
      position = "?since_id=#{event_id}"
    else
      next
    end
  end
  ws.on(:close) { EM.add_timer(1, &connect) }
end

EM.run(&connect)
