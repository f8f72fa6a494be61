-- Append elements to the imports, behind as many as this node has read; return how many there are.
--
-- Nothing is appended if there are more or fewer: the node reads the list again then.
--
-- ARGV: owner, token, how many it has read, 0 to begin another list; then the elements

local known = tonumber(ARGV[3])
if known == 0 then redis.call('DEL', KEYS[7]) end
local count = count_imports()
if count ~= known then return math.max(count, 0) end
return redis.call('RPUSH', KEYS[7], unpack(ARGV, 4))
