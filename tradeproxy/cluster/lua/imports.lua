-- The imports are read through these: anyone with the password may have written another type there.

-- Return how many there are; -1 if they are no list.
local function count_imports()
  local kind = redis.call('TYPE', KEYS[7]).ok
  if kind == 'none' then return 0 end
  return kind == 'list' and redis.call('LLEN', KEYS[7]) or -1
end
-- as MAX_PAGE in book/importing.py
local function shorten(element) return #element > 262144 and '' or element end
