-- Append the events that are new, save metadata, publish the stream state.
--
-- Only the newest stream state stays in the stream: the entry of the one before is deleted. Nothing
-- is written to a log that is not whole, or whose last number is below the number read: it lost its
-- end.
--
-- ARGV: owner, token, now, the number read, stream state, how many arguments of metadata, these;
-- then for every event: key, meta, payload, execution

-- before the first change: an error in the middle would leave an id without its event
local epoch = read_epoch()
if not epoch then return false end
local last = tonumber(redis.call('HGET', KEYS[2], 'last'))
-- this node has read more than there is: the log has lost its end
if last < tonumber(ARGV[4]) then return {string.format('%.0f', last), 0} end
local metadata, added, dropped = tonumber(ARGV[6]), 0, 0
for i = 7 + metadata, #ARGV, 4 do
  local number = string.format('%.0f', last + 1)
  -- after a lost reply the leader writes the same events again
  if redis.call('ZADD', KEYS[5], 'NX', number, ARGV[i]) == 1 then
    local fields = {'p', ARGV[i + 2], 'm', ARGV[i + 1], 'r', ARGV[3], 'e', epoch}
    if ARGV[i + 3] ~= '' then fields[9], fields[10] = 'x', ARGV[i + 3] end
    redis.call('XADD', KEYS[4], number .. '-0', unpack(fields))
    last, added = last + 1, added + 1
  else
    dropped = dropped + 1
  end
end
local number = string.format('%.0f', last)
if added > 0 then redis.call('HSET', KEYS[2], 'last', number, 'sub', '0') end
save_metadata(7, metadata)
if ARGV[5] ~= '' then
  local before = redis.call('HGET', KEYS[2], 'said')
  if before then redis.call('XDEL', KEYS[4], before) end
  local id = number .. '-' .. string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'sub', 1))
  redis.call('XADD', KEYS[4], id, 's', ARGV[5], 'o', ARGV[1])
  redis.call('HSET', KEYS[2], 'standing', ARGV[5], 'said', id, 'teller', ARGV[1])
end
return {number, dropped}
