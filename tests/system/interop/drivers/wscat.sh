while true; do
  wscat --connect ws://localhost:8099/trade-updates-paper --wait 86400 \
    --execute '{"action":"auth","key":"any","secret":"any"}' |
    jq --unbuffered -Rr 'fromjson? | objects | .data | "\(.event) \(.order.id)"'
  sleep 1
done
