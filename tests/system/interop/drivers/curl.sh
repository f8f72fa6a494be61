while true; do
  curl --silent --no-buffer http://localhost:8099/trade-updates-paper/v2/events/trades |
    sed -un 's/^data: //p' | jq --unbuffered -r '"\(.event) \(.order.id)"'
  sleep 1
done
