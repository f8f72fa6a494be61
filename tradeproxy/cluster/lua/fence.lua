-- Reject a write unless this node has the lease with this token.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1]
    or redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then
  return false
end
