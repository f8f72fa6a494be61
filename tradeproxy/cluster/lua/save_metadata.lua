-- Save `count` arguments from ARGV[from] on: pairs of a name and a text; an empty one removes it.
local function save_metadata(from, count)
  for i = from, from + count - 1, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[3], ARGV[i])
    else
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
end
