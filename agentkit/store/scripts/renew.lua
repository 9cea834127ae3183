-- Extend a lease, unless it was released (till 0). KEYS: run. ARGV: step, token, lease ms. Returns 'lost' or the version.
local s = step_get(KEYS[1], ARGV[1])
if not s or s.token ~= ARGV[2] or s.till == 0 then
  return 'lost'
end
s.till = now_ms() + tonumber(ARGV[3])
step_set(KEYS[1], ARGV[1], s)
return redis.call('HGET', KEYS[1], 'v')
