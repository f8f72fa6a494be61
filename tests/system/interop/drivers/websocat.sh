while true; do
  (echo '{"action":"auth","key":"any","secret":"any"}' && sleep infinity) |
    websocat ws://localhost:8099/trade-updates-paper |
    jq --unbuffered -Rr 'fromjson? | objects | .data | "\(.event) \(.order.id)"'
  sleep 1
done
