-- Return the epoch of the log; false if there is none, or if it is not whole.
local function read_newest_id()
  if redis.call('EXISTS', KEYS[4]) == 0 then return false end
  local info = redis.call('XINFO', 'STREAM', KEYS[4])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
local function read_epoch()
  local epoch, url, begins, trimmed =
    unpack(redis.call('HMGET', KEYS[3], 'epoch', 'base_url', 'begins', 'trimmed'))
  local last, sub = unpack(redis.call('HMGET', KEYS[2], 'last', 'sub'))
  if not (epoch and url and begins and trimmed and last and sub) then return false end
  -- not the newest entry that is left: the former version trimmed every one
  if read_newest_id() ~= last .. '-' .. sub then return false end
  local number = redis.call('ZRANGE', KEYS[5], -1, -1, 'WITHSCORES')[2]
  -- a log without events has no ids
  if last ~= trimmed and tonumber(number) ~= tonumber(last) then return false end
  return epoch
end
