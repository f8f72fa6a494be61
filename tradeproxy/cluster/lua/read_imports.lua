-- Return how many imports there are, and some of them from an index on.
--
-- At least one comes if it is there. One that is too large for a page comes as an empty text.
--
-- ARGV: the index, how many at most, and about how many bytes

local first, limit, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local count, reply, size = count_imports(), {}, 0
if count > first then
  for _, element in ipairs(redis.call('LRANGE', KEYS[7], first, first + limit - 1)) do
    element = shorten(element)
    size = size + #element
    if size > most and #reply > 0 then break end
    reply[#reply + 1] = element
  end
end
return {count, reply}
